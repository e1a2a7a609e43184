"""The flow: from a dataset in Tahoe's layout to `embeddings.csv` and `pca_variance.csv`."""

from prefect import flow
from prefect.client.schemas.objects import State

from flows.artifacts import show_results
from flows.parameters import takes_settings
from flows.progress import told_to_prefect
from flows.run_name import run_name
from flows.skipped import with_skipped_told
from flows.stages import Stages, stages
from tasks.clustering import cluster
from tasks.core.housekeeping import keep_only
from tasks.core.landing import check_skipped
from tasks.core.record import Findings, RunRecord, make_record, write_record
from tasks.core.settings import Settings
from tasks.core.store import output_of, store_of
from tasks.export import export
from tasks.matrix import build_counts, order_genes
from tasks.normalization import normalize
from tasks.planning import plan_partitions
from tasks.streaming import stream_cells
from tasks.svd import embed, fit_svd

# Of the work of a large run, in percent: for a bar that moves evenly.
_SHARES = {
    "plan": 1,
    "streaming": 16,
    "matrix": 8,
    "gene order": 1,
    "normalization": 15,
    "svd": 43,
    "embedding": 5,
    "clustering": 4,
    "export": 7,
}


@flow(name="cluster-cells", flow_run_name=run_name, persist_result=False)
@takes_settings
def cluster_cells(settings: Settings) -> RunRecord | State[RunRecord]:
    """Stream single cells, build sparse counts, normalize, reduce with truncated SVD and cluster with K-means."""
    store, output = store_of(settings), output_of(settings)
    for place in (store, output):
        place.check_writable()
    with told_to_prefect(_SHARES), stages(settings) as run:
        found = run.until_whole(lambda: _all_stages(run, settings))
        run.mark.end(found)
    keep_only(settings, run.mark.name)
    record = make_record(settings, found, run.costs)
    write_record(output, record)
    show_results(record, output)
    return with_skipped_told(record)


def _all_stages(run: Stages, settings: Settings) -> Findings:
    plan = run.one(plan_partitions, settings)
    run.costs.cells = plan.cells
    genes = plan.vocabulary

    landed = run.each(stream_cells, plan.partitions, genes, settings)
    skipped = check_skipped(plan, landed, settings)
    cells = [part for part in landed if part.cells]
    counts = run.each(build_counts, cells, genes, settings)
    order = run.one(order_genes, counts[0], genes, settings)
    normalized = run.each(normalize, counts, order, settings)
    model = run.one(fit_svd, normalized, order, settings)
    embeddings = run.each(embed, normalized, order, model, settings)
    clustering = run.one(cluster, embeddings, settings)
    outputs = run.one(export, genes, cells, embeddings, model, clustering, settings)
    return Findings(plan, cells, counts, order, normalized, model, embeddings, clustering, outputs, skipped)
