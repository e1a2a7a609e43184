"""The flow that applies a model: from new cells to their `embeddings.csv`, nothing fitted."""

from typing import Any

from prefect import flow, unmapped
from prefect.client.schemas.objects import State

from flows.carry_out import OPTIONS, Run, carry_out
from flows.parameters import takes_settings
from flows.partitions import exported_cells, normalized_cells, results, untraced
from tasks.clustering import label_cells
from tasks.core.base.settings import ApplySettings
from tasks.core.results.drafts import Draft
from tasks.core.results.findings import Applied
from tasks.core.results.record import ApplyRecord, content_of, make_apply_record
from tasks.export import deliver, find_results
from tasks.planning import plan_partitions
from tasks.saved_model import find_model, load_clusters, load_components
from tasks.stage import batched, with_retries
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
    **OPTIONS,
)
@takes_settings
def apply_model(settings: ApplySettings) -> dict[str, Any] | State[dict[str, Any]]:
    """Stream single cells, build sparse counts, normalize, and embed and label them by a model of an earlier run."""
    return carry_out(settings, _all_stages, _SHARES)


def _all_stages(run: Run, settings: ApplySettings) -> tuple[Applied, ApplyRecord]:
    model = find_model(settings)
    planned = with_retries(plan_partitions, settings.retries).submit(settings)
    plan = planned.result()
    run.costs.cells = plan.cells
    components = load_components(model, plan.vocabulary, settings)
    clusters = load_clusters(model, settings)

    matrix, sizes, cells_from, normalized_from = normalized_cells(planned, settings)
    embed_each = batched(embed)
    embedded_from = embed_each.map(normalized_from, unmapped(matrix.order), unmapped(components), unmapped(settings))
    embeddings = results([{embed.name: run} for run in embedded_from], sizes)[embed.name]
    labels = label_cells(embeddings, clusters, settings, wait_for=embedded_from)
    given = [*cells_from, *embedded_from]
    found = Applied(matrix, model, components, clusters, embeddings, labels)
    record = make_apply_record(settings, found, run.costs, run.origin)
    content = content_of(record, found)
    standing = find_results(content, settings, wait_for=[*given, labels])
    if standing.outputs:
        return found, record.model_copy(update={"outputs": standing.outputs, "content": content})

    draft = Draft.of(content)
    exported = exported_cells(found.labelled, draft, settings, wait_for=[standing])
    written = [run.result() for run in exported]
    record = make_apply_record(settings, found, run.costs, run.origin).model_copy(update={"content": content})
    return found, deliver(written, draft, untraced(record), settings)
