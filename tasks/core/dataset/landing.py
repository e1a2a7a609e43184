"""A partition from its source to the store: streamed, checked, and what is bad refused or left out."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress

import numpy as np
import pyarrow as pa

from tasks.core.base.errors import CorruptObjectError, DataError, UnreadableError
from tasks.core.base.settings import RunSettings
from tasks.core.dataset.cells import VERSION, read_cells, read_metadata
from tasks.core.dataset.joins import get_sides, join, unmatched
from tasks.core.dataset.kinds import kind_named
from tasks.core.dataset.plan import column_of_token
from tasks.core.dataset.reading import in_little_memory
from tasks.core.dataset.source import stream_partition
from tasks.core.numerics.block import Block, decode_table, encode_table, in_blocks
from tasks.core.references.cells import Cells, Partition, Plan, Skipped, Tokens, Vocabulary
from tasks.core.storage.store import ObjectRef, Outcome, StageKey, Store, store_of

_NAMED_IN_MESSAGES = 3


def land_cells(partition: Partition, vocabulary: Vocabulary, settings: RunSettings) -> Outcome[Cells]:
    """Stream a partition, check its cells and land them: later stages need the source no more.

    What is bad is read a second time before it counts as that. Of what can be decoded, that which breaks the layout is
    left out for good, if it is to be skipped. Of what cannot be decoded every run sees for itself.

    Raises:
        DataError: a cell or the shard breaks the layout, and is not to be skipped.
        MemoryShortError: there is too little memory.
        SourceError: the source cannot be read, or is not what the plan saw.
    """
    store = store_of(settings)
    skips = settings.on_bad_data == "skip"
    inputs = {"genes": vocabulary.key, "block_cells": settings.block_cells}
    key = StageKey(stage="streaming", version=VERSION, inputs=partition.made_of | inputs)
    reader = _Reader(store, key, partition, vocabulary, settings)
    with in_little_memory(f"landing cells of {partition.origin}"):
        try:
            outcome = store.answer(key, Cells, lambda: reader.land(key))
        except UnreadableError as error:
            if not skips:
                raise
            reader.unread = reader.skipped_from_here(error)
            without = _without(key, [reader.unread])
            return store.answer(without, Cells, lambda: reader.land(without))
        if outcome.result.skipped and not skips:
            # Left by a run that was to skip; it is bad still, or was mended at the source.
            outcome = Outcome(reader.land(key), cached=False)
            store.finish(key, outcome.result)
        return outcome


def find_tokens(store: Store, cells: Cells) -> Tokens:
    """Give the tokens of a partition that was streamed.

    Raises:
        CorruptObjectError: they are gone, as they are once a matrix was built of them; the partition counts as not
            streamed.
    """
    found = store.find(_of_tokens(cells.landed), Tokens)
    if found is None:
        store.forget(cells.metadata.folder)
        raise CorruptObjectError(
            f"the counts of {cells.origin} are gone, or have their genes in another order, and so are its tokens"
        )
    return found.result


def remove_tokens(store: Store, cells: Cells) -> None:
    """Remove the tokens of a partition, of which a matrix was built."""
    store.remove(_of_tokens(cells.landed).folder)


def _of_tokens(landed: str) -> StageKey:
    return StageKey(stage="tokens", version=VERSION, inputs={"cells": landed})


def check_skipped(plan: Plan, cells: Iterable[Cells], settings: RunSettings) -> tuple[Skipped, ...]:
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


class _Reader:
    """Lands a partition batch by batch; what is bad is noted if it may be skipped.

    Attributes:
        unread: rows, up to the last, that are not to be read, as they cannot be.
    """

    def __init__(
        self, store: Store, key: StageKey, partition: Partition, vocabulary: Vocabulary, settings: RunSettings
    ) -> None:
        self.unread: Skipped | None = None
        self._store = store
        self._key = key
        self._partition = partition
        self._vocabulary = vocabulary
        self._settings = settings
        self._kinds = {name: kind_named(kind) for name, kind in partition.metadata.items()}

    def land(self, key: StageKey) -> Cells:
        """Read the partition and land its cells; once more from the source, where some of it is bad."""
        with suppress(DataError):
            cells = self._land(key)
            if len(cells.skipped) <= (self.unread is not None):
                return cells
        return self._land(key)

    def skipped_from_here(self, error: DataError) -> Skipped:
        """Give the rows from where the last reading ended on."""
        return self._skip(self._row, self._left, error)

    def _land(self, key: StageKey) -> Cells:
        self._skipped = [] if self.unread is None else [self.unread]
        self._metadata: list[pa.Table] = []
        self._known = column_of_token(self._store, self._vocabulary) >= 0
        tokens, refs = _of_tokens(key.digest), list[ObjectRef]()
        nonzeros = 0
        for block in in_blocks(self._blocks(), self._settings.block_cells):
            refs.append(self._store.put(f"{tokens.folder}/{len(refs):05}.arrow", block.to_arrow(), block.cells))
            nonzeros += len(block.values)
        described = pa.concat_tables([pa.schema(list(self._kinds.items())).empty_table(), *self._metadata])
        sides = get_sides(self._store, self._partition.lookups)
        missing = unmatched(described, sides)
        described = join(described, sides)
        cells = described.num_rows
        bad = sorted(self._skipped, key=lambda one: one.row)
        self._store.finish(tokens, Tokens(blocks=tuple(refs)))
        return Cells(
            key=_without(self._key, bad).digest,
            origin=self._partition.origin,
            cells=cells,
            nonzeros=nonzeros,
            metadata=self._store.put(f"{key.folder}/metadata.arrow", encode_table(described), cells),
            landed=key.digest,
            skipped=tuple(bad),
            unmatched=missing,
        )

    def _blocks(self) -> Iterator[Block]:
        chosen = None if self._partition.rows is None else decode_table(self._store.get(self._partition.rows))
        self._row, self._left = self._partition.start, self._partition.cells
        stop = self._partition.stop if self.unread is None else self.unread.row
        if self._row == stop:
            return
        for rows, table in stream_partition(self._partition, chosen, self._settings.credentials):
            yield self._read(table, rows)
            self._row, self._left = rows[-1] + 1, self._left - len(rows)
            if self._row >= stop:
                return

    def _read(self, table: pa.Table, rows: Sequence[int]) -> Block:
        try:
            block, described = self._check(table, rows)
        except DataError:
            if self._settings.on_bad_data == "fail":
                raise
            good = list(self._good_ones(table, rows))
            block, described = self._check(table.take(np.array(good, np.int64)), [rows[at] for at in good])
        self._metadata.append(described)
        return block

    def _check(self, table: pa.Table, rows: Sequence[int]) -> tuple[Block, pa.Table]:
        """Give the counts of some cells, and what is known of them."""
        shard = self._partition.shard_name
        block = read_cells(table, self._known, shard, rows)
        return block, read_metadata(table, self._kinds, shard, rows)

    def _good_ones(self, table: pa.Table, rows: Sequence[int]) -> Iterator[int]:
        for at in range(table.num_rows):
            try:
                self._check(table.slice(at, 1), rows[at : at + 1])
            except DataError as error:
                self._skipped.append(self._skip(rows[at], 1, error))
            else:
                yield at

    def _skip(self, row: int, rows: int, error: DataError) -> Skipped:
        return Skipped(shard=self._partition.shard_name, row=row, rows=rows, reason=str(error))


def _without(key: StageKey, skipped: Sequence[Skipped]) -> StageKey:
    """Key of the same, but that rows were left out: what is made of all is never taken for what is made of them."""
    rows = {"without": [[bad.row, bad.rows] for bad in skipped]} if skipped else {}
    return StageKey(stage=key.stage, version=key.version, inputs=key.inputs | rows)
