"""Cells as a stream of Arrow tables; the only module that imports `datasets`.

Its own reader of parquet decodes row groups whole, of whatever size, and finds files by patterns: here it streams what
`shard` reads, page by page, from the one file that a partition names.
"""

from collections.abc import Iterator, Sequence

import datasets
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from datasets.iterable_dataset import ArrowExamplesIterable

from tasks.core.base.errors import UnreadableError
from tasks.core.dataset.cells import EXPRESSIONS, GENES
from tasks.core.dataset.partitions import ROW
from tasks.core.dataset.place import Place
from tasks.core.dataset.reading import translated
from tasks.core.dataset.shard import OpenShard, changed, open_shard
from tasks.core.references.cells import Partition

_BATCH_ROWS = 1_000

datasets.disable_progress_bars()
datasets.logging.set_verbosity(datasets.logging.CRITICAL)


def stream_partition(
    partition: Partition, chosen: pa.Table | None = None, credentials: str | None = None
) -> Iterator[tuple[Sequence[int], pa.Table]]:
    """Yield the partition's rows as tables, each with the rows of the shard that it holds.

    Args:
        partition: which rows of which shard.
        chosen: of these rows the ones to give, as `partitions` writes them; all if None.
        credentials: name of the Prefect block with those for a dataset on S3, if there is one.

    Raises:
        UnreadableError: the shard cannot be decoded, or ends too early.
        SourceError: it cannot be reached, or is not what the plan saw.
    """
    rows = np.arange(partition.start, partition.stop) if chosen is None else chosen.column(ROW).to_numpy()
    wanted = {"place": Place(partition.dataset, partition.revision, credentials), "partition": partition, "rows": rows}
    stream = datasets.IterableDataset(ArrowExamplesIterable(_tables, wanted))
    at = 0
    with translated(partition.dataset, f"shard {partition.shard_name}, rows from {partition.start:,} on"):
        for table in stream.with_format("arrow").iter(_BATCH_ROWS):
            yield rows[at : at + table.num_rows].tolist(), table
            at += table.num_rows
    if at < len(rows):
        raise UnreadableError(
            f"shard {partition.shard_name} ends before row {rows[at]:,}, which is one of those in its footer"
        )


def _tables(place: Place, partition: Partition, rows: npt.NDArray[np.int64]) -> Iterator[tuple[int, pa.Table]]:
    with open_shard(place, partition.shard_name) as shard:
        if shard.describe().fingerprint != partition.fingerprint:
            raise changed(place, partition.shard_name)
        yield from enumerate(_wanted(shard, [GENES, EXPRESSIONS, *partition.metadata], rows))


def _wanted(shard: OpenShard, columns: Sequence[str], rows: npt.NDArray[np.int64]) -> Iterator[pa.Table]:
    """Yield some rows of a shard, from the row groups that hold them."""
    begins = np.concatenate([[0], np.cumsum(shard.group_rows)])
    group_of = np.searchsorted(begins, rows, side="right") - 1
    groups = np.unique(group_of)
    # Where each of these rows lies among all rows of the row groups that are read.
    skipped = begins[groups] - np.concatenate([[0], np.cumsum(np.array(shard.group_rows)[groups])[:-1]])
    places = rows - skipped[np.searchsorted(groups, group_of)]
    at = done = 0
    for table in shard.batches(groups.tolist(), columns):
        here = places[done : np.searchsorted(places, at + table.num_rows)] - at
        if len(here):
            yield table if len(here) == table.num_rows else table.take(here)
        at, done = at + table.num_rows, done + len(here)
        if done == len(rows):
            return
