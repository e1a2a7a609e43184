"""Shards cut into partitions: all their rows, or those that were chosen."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tasks.core.base.settings import ALL
from tasks.core.dataset.shard import Shard
from tasks.core.numerics.block import encode_table
from tasks.core.references.cells import Partition
from tasks.core.storage.store import Store

Rows = npt.NDArray[np.int64]
# Column of the object that lists chosen rows.
ROW = "row"
# A row group is decoded from its first row on: one that is larger than a partition is cut no smaller than this, or
# most of the work would be to decode what partitions before have decoded.
_LARGE_GROUP_PARTITIONS = 5


@dataclass(frozen=True)
class Picked:
    """A shard and which of its rows are wanted.

    Attributes:
        bits: one for each row (of all Tahoe's cells that is 12 MB); None for all rows.
    """

    shard: Shard
    bits: npt.NDArray[np.uint8] | None = None

    @classmethod
    def of(cls, shard: Shard, rows: Rows) -> "Picked":
        """Pick rows, in any order."""
        wanted = np.zeros(sum(shard.group_rows), bool)
        wanted[rows] = True
        return cls(shard, np.packbits(wanted))

    @property
    def rows(self) -> Rows:
        """The rows picked, in order."""
        every = np.arange(sum(self.shard.group_rows))
        return every if self.bits is None else every[np.unpackbits(self.bits, count=len(every)).astype(bool)]

    @property
    def cells(self) -> int:
        """How many."""
        return sum(self.shard.group_rows) if self.bits is None else int(np.bitwise_count(self.bits).sum())


def cut(picked: Picked, partition_cells: int, common: dict[str, Any], store: Store) -> list[Partition]:
    """Cut the rows picked of a shard into partitions.

    Args:
        picked: the rows.
        partition_cells: the most that a partition may hold.
        common: what all partitions of the shard share.
        store: where to leave which rows they are, unless they are all.
    """
    if picked.bits is not None:
        return list(_cut_rows(picked, partition_cells, common, store))
    return [
        Partition.model_validate(common | {"start": start, "stop": stop})
        for start, stop in pieces(picked.shard.group_rows, partition_cells)
    ]


def _cut_rows(picked: Picked, partition_cells: int, common: dict[str, Any], store: Store) -> Iterator[Partition]:
    begins = np.concatenate([[0], np.cumsum(picked.shard.group_rows)])
    rows = picked.rows
    group_of = np.searchsorted(begins, rows, side="right") - 1
    in_groups = np.bincount(group_of, minlength=len(begins) - 1)
    for start, stop in pieces(in_groups.tolist(), partition_cells):
        here = rows[start:stop]
        chosen = store.keep("rows", "rows.arrow", encode_table(pa.table({ROW: here})), len(here))
        yield Partition.model_validate(common | {"start": int(here[0]), "stop": int(here[-1]) + 1, "rows": chosen})


def cut_short(parts: Sequence[Partition], samples: int | Literal["all"]) -> Iterator[Partition]:
    """Give so many cells of partitions of whole shards, the last one cut short."""
    left = sum(part.cells for part in parts) if samples == ALL else samples
    for part in parts:
        if left <= 0:
            return
        yield part.model_copy(update={"stop": min(part.stop, part.start + left)})
        left -= part.cells


def pieces(sizes: Sequence[int], partition_cells: int) -> Iterator[tuple[int, int]]:
    """Cut row groups of these sizes on a fixed grid: give the first row of each piece, and the one after its last.

    A piece is some whole row groups, or a part of one that is larger than a piece.
    """
    start = rows = 0
    for size in sizes:
        if rows and rows + size > partition_cells:
            yield start, start + rows
            start, rows = start + rows, 0
        rows += size
        if rows > partition_cells:
            # Such a row group is alone here.
            stop = start + rows
            for first in range(start, stop, _LARGE_GROUP_PARTITIONS * partition_cells):
                yield first, min(first + _LARGE_GROUP_PARTITIONS * partition_cells, stop)
            start, rows = stop, 0
    if rows:
        yield start, start + rows
