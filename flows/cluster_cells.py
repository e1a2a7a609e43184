"""The flow: from a dataset in Tahoe's layout to `embeddings.csv` and `pca_variance.csv`."""

from prefect import flow
from prefect.client.schemas.objects import State

from flows.carry_out import carry_out
from flows.matrix import normalized_cells
from flows.parameters import takes_settings
from flows.stages import Stages
from tasks.clustering import cluster
from tasks.core.plan import check_sizes
from tasks.core.record import Findings, RunRecord, make_record
from tasks.core.settings import Settings
from tasks.export import export
from tasks.planning import plan_partitions
from tasks.svd import embed, fit_svd


@flow(name="cluster-cells", flow_run_name="{samples} cells of {dataset}", persist_result=False)
@takes_settings
def cluster_cells(settings: Settings) -> RunRecord | State[RunRecord]:
    """Stream single cells, build sparse counts, normalize, reduce with truncated SVD and cluster with K-means."""
    return carry_out(settings, _all_stages, make_record)


def _all_stages(run: Stages, settings: Settings) -> Findings:
    plan = run.one(plan_partitions, settings)
    check_sizes(plan, settings)

    matrix = normalized_cells(run, plan, settings)
    model = run.one(fit_svd, matrix.normalized, matrix.order, settings)
    embeddings = run.each(embed, matrix.normalized, matrix.order, model, settings)
    clustering = run.one(cluster, embeddings, settings)
    outputs = run.one(export, plan.vocabulary, matrix.cells, embeddings, model, clustering, settings)
    return Findings(matrix, model, embeddings, clustering, outputs)
