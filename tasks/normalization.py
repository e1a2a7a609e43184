"""Stage: normalize a partition's counts (counts per million, log1p)."""

from tasks.core.base.settings import RunSettings
from tasks.core.dataset import partition_steps
from tasks.core.references.cells import Counted, Normalized
from tasks.core.storage.store import Outcome, store_of
from tasks.stage import stage


@stage(name="normalization", task_run_name="normalize {counted.origin}")
def normalize(counted: Counted, settings: RunSettings) -> Outcome[Normalized]:
    """Normalize the counts of one partition: take the moments of its genes; values are made as they are read."""
    return partition_steps.normalize(store_of(settings), counted.counts)
