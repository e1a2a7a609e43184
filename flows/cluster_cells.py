"""The flow: from a dataset in Tahoe's layout to `embeddings.csv` and `pca_variance.csv`."""

from prefect import flow

from flows.parameters import takes_settings
from flows.stages import stages
from tasks.clustering import cluster
from tasks.core.record import Findings, RunRecord, make_record, write_record
from tasks.core.settings import Settings
from tasks.core.store import Store
from tasks.export import export
from tasks.matrix import build_counts, order_genes
from tasks.normalization import normalize
from tasks.planning import plan_partitions
from tasks.streaming import stream_cells
from tasks.svd import embed, fit_svd


@flow(name="cluster-cells", flow_run_name="{samples} cells of {dataset}", persist_result=False)
@takes_settings
def cluster_cells(settings: Settings) -> RunRecord:
    """Stream single cells, build sparse counts, normalize, reduce with truncated SVD and cluster with K-means."""
    output = Store.at(settings.output)
    for place in (Store.at(settings.store), output):
        place.check_writable()
    with stages(settings.threads) as run:
        plan = run.one(plan_partitions, settings)
        run.costs.cells = plan.cells
        genes = plan.vocabulary

        cells = run.each(stream_cells, plan.partitions, genes, settings)
        counts = run.each(build_counts, cells, genes, settings)
        order = run.one(order_genes, counts[0], genes, settings)
        normalized = run.each(normalize, counts, order, settings)
        model = run.one(fit_svd, normalized, order, settings)
        embeddings = run.each(embed, normalized, order, model, settings)
        clustering = run.one(cluster, embeddings, settings)
        outputs = run.one(export, genes, cells, embeddings, model, clustering, settings)

    found = Findings(plan, cells, counts, model, clustering, outputs)
    record = make_record(settings, found, run.costs)
    write_record(output, record)
    return record
