"""The flow: from a dataset in Tahoe's layout to `embeddings.csv` and `pca_variance.csv`."""

from prefect import flow
from prefect.client.schemas.objects import State

from flows.carry_out import carry_out
from flows.clusters import clustered, corrected, insights
from flows.endings import settle_mark
from flows.genes import prepared_cells
from flows.matrix import normalized_cells
from flows.parameters import takes_settings
from flows.run_name import run_name
from flows.stages import Stages
from tasks.core.base.settings import Settings
from tasks.core.dataset.columns import check_columns
from tasks.core.dataset.plan import check_sizes
from tasks.core.model.series import ALONE, fitted
from tasks.core.results.drafts import Draft
from tasks.core.results.findings import Findings, Fit
from tasks.core.results.record import RunRecord, make_record
from tasks.export import deliver, export
from tasks.planning import plan_partitions
from tasks.report import write_report
from tasks.series import conclude, continue_series
from tasks.svd import embed, fit_svd

# Of the work of a large run, in percent: for a bar that moves evenly.
_SHARES = {
    "plan": 1,
    "streaming": 16,
    "matrix": 8,
    "quality": 8,
    "gene order": 1,
    "normalization": 15,
    "genes": 8,
    "preparation": 5,
    "svd": 43,
    "embedding": 5,
    "correction": 5,
    "clustering": 4,
    "leiden": 4,
    "markers": 6,
    "map": 8,
    "scores": 3,
    "export": 7,
    "report": 2,
    "delivery": 1,
}


@flow(
    name="cluster-cells",
    flow_run_name=run_name,
    persist_result=False,
    on_crashed=[settle_mark],
    on_cancellation=[settle_mark],
)
@takes_settings
def cluster_cells(settings: Settings) -> RunRecord | State[RunRecord]:
    """Stream single cells, build sparse counts, normalize, reduce with truncated SVD and cluster with K-means."""
    return carry_out(settings, _all_stages, _SHARES)


def _all_stages(run: Stages, settings: Settings, draft: Draft) -> tuple[Findings, RunRecord]:
    plan = run.one(plan_partitions, settings)
    check_sizes(plan.cells, plan.vocabulary.genes, settings)
    check_columns(plan, settings.recipe_in_full)
    place = run.one(continue_series, plan, settings) if settings.series else ALONE
    start = place.start

    matrix = normalized_cells(run, plan, settings, start.order if start else None)
    prepared = prepared_cells(run, matrix, settings)
    check_sizes(sum(part.cells for part in matrix.cells), prepared.order.genes, settings)
    model = run.one(fit_svd, prepared.cells, prepared.order, settings, start)
    components = run.each(embed, prepared.cells, prepared.order, model, settings)
    embedded = corrected(run, matrix, components, settings)
    clusters = clustered(run, embedded, model, settings, start)
    meaning = insights(run, plan.vocabulary, matrix, embedded, clusters, settings)

    fit = Fit(matrix, prepared, model, embedded, clusters, meaning)
    run.one(export, fit, draft, settings)
    learnt = fitted(plan, matrix.cells, matrix.order, model, clusters.clustering)
    entry = run.one(conclude, run.mark.name, plan, learnt, place, draft, settings) if settings.series else None
    found = Findings(fit, place, entry)
    run.one(write_report, fit, make_record(settings, found, run.costs), draft, settings)
    return found, run.one(deliver, draft, make_record(settings, found, run.costs), settings)
