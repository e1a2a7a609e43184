"""Stage: stream a partition from the source and land its cells in the store."""

from tasks.core.base.settings import RunSettings
from tasks.core.dataset.landing import land_cells
from tasks.core.references.cells import Cells, Partition, Vocabulary
from tasks.core.storage.store import Outcome
from tasks.stage import networked


@networked(name="streaming", task_run_name="stream {partition.origin}")
def stream_cells(partition: Partition, vocabulary: Vocabulary, settings: RunSettings) -> Outcome[Cells]:
    """Land the cells of one partition, checked, as blocks of tokens and counts."""
    return land_cells(partition, vocabulary, settings)
