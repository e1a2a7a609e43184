"""The flow: from a dataset in Tahoe's layout to `embeddings.csv` and `pca_variance.csv`."""

from collections.abc import Sequence
from typing import Any

from prefect import flow, unmapped
from prefect.client.schemas.objects import State

from flows.carry_out import OPTIONS, Run, carry_out
from flows.parameters import takes_settings
from flows.partitions import Runs, exported_cells, normalized_cells, results, untraced
from flows.run_name import run_name
from tasks.clustering import cluster
from tasks.core.base.recipes import NONE
from tasks.core.base.settings import Settings
from tasks.core.dataset.columns import check_columns
from tasks.core.dataset.plan import check_sizes
from tasks.core.model.series import ALONE, fitted
from tasks.core.references.batches import Batch
from tasks.core.references.cells import Normalized
from tasks.core.results.drafts import Draft
from tasks.core.results.findings import Clustered, Embedded, Findings, Fit, Insights, Prepared
from tasks.core.results.record import RunRecord, content_of, make_record
from tasks.correction import correct_batches
from tasks.export import deliver, export, find_results
from tasks.genes import choose_genes, prepare_genes
from tasks.insight import find_communities, find_markers, judge, map_cells
from tasks.planning import plan_partitions
from tasks.report import write_report
from tasks.series import conclude, continue_series, export_history
from tasks.stage import batched, with_retries
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
    **OPTIONS,
)
@takes_settings
def cluster_cells(settings: Settings) -> dict[str, Any] | State[dict[str, Any]]:
    """Stream single cells, build sparse counts, normalize, reduce with truncated SVD and cluster with K-means."""
    return carry_out(settings, _all_stages, _SHARES)


def _all_stages(run: Run, settings: Settings) -> tuple[Findings, RunRecord]:
    """All of the run; an optional stage is left out where neither the recipe nor a setting asks for it."""
    recipe = settings.recipe_in_full

    planned = with_retries(plan_partitions, settings.retries).submit(settings)
    plan = planned.result()
    check_sizes(plan.cells, plan.vocabulary.genes, settings)
    check_columns(plan, recipe)
    run.costs.cells = plan.cells
    place = continue_series(plan, settings) if settings.series else ALONE
    start = place.start

    matrix, sizes, cells_from, normalized_from = normalized_cells(planned, settings, start.order if start else None)
    cells, counts, normalized, order, chosen = matrix.cells, matrix.counts, matrix.normalized, matrix.order, None
    if recipe.prepares_genes:
        chosen = choose_genes(cells, counts, normalized, order, settings, wait_for=[*cells_from, *normalized_from])
        prepared_from: Runs[Normalized] = batched(prepare_genes).map(
            normalized_from, unmapped(order), unmapped(chosen), unmapped(settings)
        )
        found_of = results([{prepare_genes.name: run} for run in prepared_from], sizes)
        prepared = Prepared(found_of[prepare_genes.name], chosen.order, chosen)
    else:
        prepared_from, prepared = normalized_from, Prepared(normalized, order, None)
    check_sizes(sum(part.cells for part in cells), prepared.order.genes, settings)

    model = fit_svd(prepared.cells, prepared.order, settings, start, wait_for=prepared_from)
    embedded_from = batched(embed).map(prepared_from, unmapped(prepared.order), unmapped(model), unmapped(settings))
    components = results([{embed.name: run} for run in embedded_from], sizes)[embed.name]
    corrected = (
        correct_batches(cells, components, settings, wait_for=[*cells_from, *embedded_from])
        if recipe.correction != NONE
        else None
    )
    embedded = Embedded(components, corrected)
    points, points_from = Batch(embedded.embeddings), [corrected] if corrected else embedded_from

    first, *more = settings.cluster_numbers
    clustering = cluster(points, model, first, settings, start, wait_for=points_from)
    others = [cluster(points, model, number, settings, None, wait_for=points_from) for number in more]
    communities = find_communities(points, settings, wait_for=points_from) if recipe.leiden else None
    clusters = Clustered(clustering, others, communities)

    markers = (
        find_markers(normalized, order, plan.vocabulary, clustering, settings, wait_for=normalized_from)
        if recipe.markers
        else None
    )
    cell_map = map_cells(points, settings, wait_for=points_from) if recipe.layout != NONE else None
    given = [*cells_from, *embedded_from, *points_from]
    scores = (
        judge(cells, components, points, clusters.by_column, settings, wait_for=given)
        if recipe.compared or recipe.batch_column or others
        else None
    )

    fit = Fit(matrix, prepared, model, embedded, clusters, Insights(markers, cell_map, scores))
    known_by = [*cells_from, *points_from, model, *filter(None, [chosen, *clusters.by_column.values(), markers])]
    content = content_of(make_record(settings, Findings(fit, place, None), run.costs, run.origin), fit)
    # Of a series in which something has changed, the history goes on.
    has_more = bool(settings.series) and not place.unchanged
    standing = find_results(None if has_more else content, settings, wait_for=known_by)
    learnt = fitted(plan, cells, order, model, clustering)
    entry = conclude(run.origin.run, plan, learnt, place, settings) if settings.series else None
    found = Findings(fit, place, entry)
    if standing.outputs:
        record = make_record(settings, found, run.costs, run.origin)
        return found, record.model_copy(update={"outputs": standing.outputs, "content": content})
    told_by = [standing, *filter(None, [cell_map, scores, entry])]
    return found, _write_results(run, settings, found, content, told_by)


def _write_results(
    run: Run, settings: Settings, found: Findings, content: str | None, told_by: Sequence[Any]
) -> RunRecord:
    fit, draft, (standing, *_) = found.fit, Draft.of(content), told_by
    exported = exported_cells(fit.labelled, draft, settings, wait_for=[standing])
    exported.append(export.submit(untraced(fit), draft, settings, wait_for=[standing], return_state=False))
    if found.entry:
        exported.append(export_history.submit(found.entry, draft, settings))
    so_far = make_record(settings, found, run.costs, run.origin)
    exported.append(
        write_report.submit(untraced(fit), untraced(so_far), draft, settings, wait_for=told_by, return_state=False)
    )
    written = [run.result() for run in exported]
    record = make_record(settings, found, run.costs, run.origin).model_copy(update={"content": content})
    return deliver(written, draft, untraced(record), settings)
