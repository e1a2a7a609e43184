"""Stage: normalize a partition's counts (counts per million, log1p)."""

from prefect.client.schemas.objects import State

from tasks.core.base.settings import RunSettings
from tasks.core.dataset import partition_steps
from tasks.core.references.cells import Counts, GeneOrder, Normalized
from tasks.core.storage.store import store_of
from tasks.stage import as_state, stage


@stage(name="normalization", task_run_name="normalize {counts.origin}")
def normalize(counts: Counts, order: GeneOrder, settings: RunSettings) -> Normalized | State[Normalized]:
    """Normalize the counts of one partition and take the moments of its genes."""
    return as_state(partition_steps.normalize(store_of(settings), counts, order))
