"""The flow that applies a model: from new cells to their `embeddings.csv`, nothing fitted."""

from prefect import flow
from prefect.client.schemas.objects import State

from flows.carry_out import carry_out
from flows.endings import settle_mark
from flows.matrix import normalized_cells
from flows.parameters import takes_settings
from flows.stages import Stages
from tasks.clustering import label_cells
from tasks.core.base.settings import ApplySettings
from tasks.core.results.drafts import Draft
from tasks.core.results.findings import Applied
from tasks.core.results.record import ApplyRecord, make_apply_record
from tasks.export import deliver, export_cells
from tasks.planning import plan_partitions
from tasks.saved_model import find_model, load_clusters, load_components
from tasks.svd import embed

# Of the work of a large run, in percent.
_SHARES = {
    "model": 1,
    "plan": 2,
    "components": 1,
    "clusters": 1,
    "streaming": 32,
    "matrix": 14,
    "gene order": 1,
    "normalization": 27,
    "embedding": 10,
    "labels": 3,
    "export": 8,
    "delivery": 1,
}


@flow(
    name="apply-model",
    flow_run_name="{samples} cells of {dataset} by {model}",
    persist_result=False,
    on_crashed=[settle_mark],
    on_cancellation=[settle_mark],
)
@takes_settings
def apply_model(settings: ApplySettings) -> ApplyRecord | State[ApplyRecord]:
    """Stream single cells, build sparse counts, normalize, and embed and label them by a model of an earlier run."""
    return carry_out(settings, _all_stages, _SHARES)


def _all_stages(run: Stages, settings: ApplySettings, draft: Draft) -> tuple[Applied, ApplyRecord]:
    model = run.one(find_model, settings)
    plan = run.one(plan_partitions, settings)
    components = run.one(load_components, model, plan.vocabulary, settings)
    clusters = run.one(load_clusters, model, settings)

    matrix = normalized_cells(run, plan, settings)
    embeddings = run.each(embed, matrix.normalized, matrix.order, components, settings)
    labels = run.one(label_cells, embeddings, clusters, settings)
    run.one(export_cells, matrix.cells, embeddings, labels, draft, settings)
    found = Applied(matrix, model, components, clusters, embeddings, labels)
    return found, run.one(deliver, draft, make_apply_record(settings, found, run.costs), settings)
