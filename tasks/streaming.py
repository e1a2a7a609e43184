"""Stage: stream a partition from the source and land its cells in the store."""

from prefect.client.schemas.objects import State

from tasks.core.base.settings import RunSettings
from tasks.core.dataset.landing import land_cells
from tasks.core.references.cells import Cells, Partition, Vocabulary
from tasks.stage import as_state, networked


@networked(name="streaming", task_run_name="stream {partition.origin}")
def stream_cells(partition: Partition, vocabulary: Vocabulary, settings: RunSettings) -> Cells | State[Cells]:
    """Land the cells of one partition, checked, as blocks of tokens and counts."""
    return as_state(land_cells(partition, vocabulary, settings))
