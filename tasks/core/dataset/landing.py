"""A partition from its source to the store: streamed, checked, and what is bad refused or left out."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tasks.core.base.deadline import check_deadline
from tasks.core.base.errors import DataError
from tasks.core.base.settings import RunSettings
from tasks.core.dataset.cells import EXPRESSIONS, GENES, VERSION, read_cells
from tasks.core.dataset.joins import get_sides, join, unmatched
from tasks.core.dataset.plan import column_of_token
from tasks.core.dataset.source import stream_partition
from tasks.core.numerics.block import Block, decode_table, encode_table, in_blocks
from tasks.core.references.cells import Cells, Partition, Plan, Skipped, Vocabulary
from tasks.core.storage.store import ObjectRef, Outcome, StageKey, Store, store_of

_NAMED_IN_MESSAGES = 3


def land_cells(partition: Partition, vocabulary: Vocabulary, settings: RunSettings) -> Outcome[Cells]:
    """Stream a partition, check its cells and land them: later stages need the source no more.

    Raises:
        DataError: a cell or the shard breaks the layout, and is not to be skipped.
        SourceError: the source cannot be read.
    """
    store = store_of(settings)
    inputs = {"genes": vocabulary.key, "block_cells": settings.block_cells}
    key = StageKey(stage="streaming", version=VERSION, inputs=partition.made_of | inputs)

    def make() -> Cells:
        known = column_of_token(store, vocabulary) >= 0
        chosen = None if partition.rows is None else decode_table(store.get(partition.rows))
        reader = _Reader(partition, chosen, known, skips=settings.on_bad_data == "skip")
        return _land(store, key, reader, settings.block_cells)

    outcome = store.answer(key, Cells, make)
    if outcome.result.skipped and settings.on_bad_data == "fail":
        # Left by a run that was to skip.
        raise DataError(outcome.result.skipped[0].reason)
    return outcome


def check_skipped(plan: Plan, cells: list[Cells], settings: RunSettings) -> tuple[Skipped, ...]:
    """Give all that was skipped.

    Raises:
        DataError: it is more than the settings allow.
    """
    skipped = plan.skipped + tuple(bad for part in cells for bad in part.skipped)
    rows, wanted = sum(bad.rows for bad in skipped), plan.cells + sum(bad.rows for bad in plan.skipped)
    if rows > settings.most_skipped * wanted or rows == wanted:
        some = "; ".join(bad.reason for bad in skipped[:_NAMED_IN_MESSAGES])
        raise DataError(
            f"{rows:,} of {wanted:,} cells are bad, more than --most_skipped {settings.most_skipped:g} of them: {some}"
        )
    return skipped


@dataclass
class _Reader:
    """Reads a partition batch by batch; what is bad is noted if it may be skipped."""

    partition: Partition
    chosen: pa.Table | None
    known: npt.NDArray[np.bool_]
    skips: bool
    skipped: list[Skipped] = field(default_factory=list)
    metadata: list[pa.Table] = field(default_factory=list)

    def blocks(self) -> Iterator[Block]:
        row, left = self.partition.start, self.partition.cells
        try:
            for rows, table in stream_partition(self.partition, self.chosen):
                check_deadline()
                yield self._read(table, rows)
                row, left = rows[-1] + 1, left - len(rows)
        except DataError as error:
            if not self.skips:
                raise
            self._skip(row, left, error)

    def _read(self, table: pa.Table, rows: Sequence[int]) -> Block:
        try:
            block = read_cells(table, self.known, self.partition.shard_name, rows)
        except DataError:
            if not self.skips:
                raise
            good = list(self._good_ones(table, rows))
            table = table.take(np.array(good, np.int64))
            block = read_cells(table, self.known, self.partition.shard_name, [rows[at] for at in good])
        self.metadata.append(table.drop_columns([GENES, EXPRESSIONS]))
        return block

    def _good_ones(self, table: pa.Table, rows: Sequence[int]) -> Iterator[int]:
        for at in range(table.num_rows):
            try:
                read_cells(table.slice(at, 1), self.known, self.partition.shard_name, rows[at : at + 1])
            except DataError as error:
                self._skip(rows[at], 1, error)
            else:
                yield at

    def _skip(self, row: int, rows: int, error: DataError) -> None:
        self.skipped.append(Skipped(shard=self.partition.shard_name, row=row, rows=rows, reason=str(error)))


def _land(store: Store, key: StageKey, reader: _Reader, block_cells: int) -> Cells:
    refs: list[ObjectRef] = []
    nonzeros = 0
    for block in in_blocks(reader.blocks(), block_cells):
        refs.append(store.put(f"{key.folder}/{len(refs):05}.arrow", block.to_arrow(), block.cells))
        nonzeros += len(block.values)
    described = pa.concat_tables(reader.metadata) if reader.metadata else pa.table({})
    sides = get_sides(store, reader.partition.lookups) if reader.metadata else ()
    missing = unmatched(described, sides)
    described = join(described, sides)
    cells = described.num_rows
    return Cells(
        key=key.digest,
        origin=reader.partition.origin,
        cells=cells,
        nonzeros=nonzeros,
        metadata=store.put(f"{key.folder}/metadata.arrow", encode_table(described), cells),
        blocks=tuple(refs),
        skipped=tuple(reader.skipped),
        unmatched=missing,
    )
