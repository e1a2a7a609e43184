"""Stages: fit the truncated SVD of all partitions, and embed each partition in its components."""

from collections.abc import Sequence

from prefect import get_run_logger

from tasks.core.base.settings import RunSettings, Settings
from tasks.core.dataset import partition_steps
from tasks.core.model import fit_svd as core
from tasks.core.references.cells import GeneOrder, Normalized
from tasks.core.references.model import Components, Embedding, Fitted, Model
from tasks.core.storage.store import Outcome, store_of
from tasks.stage import stage


@stage(name="svd", task_run_name="fit SVD")
def fit_svd(
    partitions: Sequence[Normalized], order: GeneOrder, settings: Settings, start: Fitted | None
) -> Outcome[Model]:
    """Fit the leading components, pass by pass over the blocks, from those of an earlier run if there is one."""
    outcome = core.fit_svd(store_of(settings), partitions, order, settings, None if start is None else start.model)
    for warning in outcome.result.shortcomings:
        get_run_logger().warning(warning)
    return outcome


@stage(name="embedding", task_run_name="embed {partition.origin}")
def embed(partition: Normalized, order: GeneOrder, model: Components, settings: RunSettings) -> Outcome[Embedding]:
    """Project the cells of one partition on the components."""
    return partition_steps.embed(store_of(settings), partition, order, model)
