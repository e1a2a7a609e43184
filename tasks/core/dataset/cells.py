"""Cells as a dataset in Tahoe's layout holds them: checked, and freed of their marker."""

from collections.abc import Mapping, Sequence
from contextlib import suppress

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tasks.core.base.errors import DataError
from tasks.core.dataset.kinds import check_values, conform
from tasks.core.numerics.block import Block, IntArray, NumberArray, as_offsets, list_column, narrow, one_chunk

VERSION = 3
GENES, EXPRESSIONS = "genes", "expressions"
# The drug of cells that got none.
VEHICLE = "DMSO_TF"
MARKER_TOKEN, MARKER_VALUE = 1, -2.0
# Above this float32, in which the dataset gives them, no longer tells neighbouring integers apart.
MAX_COUNT = 2**24


def read_cells(table: pa.Table, known_tokens: npt.NDArray[np.bool_], shard: str, rows: Sequence[int]) -> Block:
    """Check a batch of cells and give their tokens and counts.

    Args:
        table: `genes` and `expressions`, lists of equal length for each cell, headed by the marker.
        known_tokens: for each token from 0 on, whether it names a gene of the vocabulary.
        shard: name of the shard, for messages.
        rows: row of each cell in the shard, for messages.

    Raises:
        DataError: a cell breaks the layout; names shard and row.
    """
    complain = _Complaint(shard, rows)
    _check_types(table, shard)
    for name in (GENES, EXPRESSIONS):
        _check_no_nulls(table, name, complain)
    offsets, tokens = list_column(table, GENES)
    value_offsets, values = list_column(table, EXPRESSIONS)
    differ = np.diff(offsets) != np.diff(value_offsets)
    complain.of_row(differ, "its 'genes' and 'expressions' differ in length")
    offsets, tokens, values = _strip_marker(offsets, tokens, values, complain)
    return Block(offsets, _to_tokens(offsets, tokens, known_tokens, complain), _to_counts(offsets, values, complain))


def read_metadata(table: pa.Table, kinds: Mapping[str, pa.DataType], shard: str, rows: Sequence[int]) -> pa.Table:
    """Give what is known of a batch of cells, as a table of cells holds it.

    Args:
        table: columns of a shard.
        kinds: the columns to give, with their types.
        shard: name of the shard, for messages.
        rows: row of each cell in the shard, for messages.

    Raises:
        DataError: a value cannot be held; names shard, row and column.
    """
    with suppress(DataError):
        return _held(table, kinds, f"shard {shard}")
    one_by_one = [_held(table.slice(at, 1), kinds, f"shard {shard}, row {row}") for at, row in enumerate(rows)]
    return pa.concat_tables(one_by_one)


class _Complaint:
    """Raises a DataError that names the first bad row of a batch."""

    def __init__(self, shard: str, rows: Sequence[int]) -> None:
        self.shard, self.rows = shard, rows

    def of_row(self, bad: npt.NDArray[np.bool_], what: str) -> None:
        if bad.any():
            self._raise(int(bad.argmax()), what)

    def of_element(self, bad: npt.NDArray[np.bool_], offsets: IntArray, elements: NumberArray, what: str) -> None:
        if bad.any():
            at = int(bad.argmax())
            self._raise(int(np.searchsorted(offsets, at, side="right")) - 1, f"{what}: {elements[at]}")

    def _raise(self, at: int, what: str) -> None:
        raise DataError(f"shard {self.shard}, row {self.rows[at]}: {what}")


def _held(table: pa.Table, kinds: Mapping[str, pa.DataType], where: str) -> pa.Table:
    held = conform(table, kinds, where)
    check_values(held, where)
    return held


def _check_types(table: pa.Table, shard: str) -> None:
    for name in (GENES, EXPRESSIONS):
        kind = table.schema.field(name).type
        is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind)
        numbers = pa.types.is_integer if name == GENES else pa.types.is_floating
        if not is_list or not numbers(kind.value_type):
            wanted = "integers" if name == GENES else "floating point numbers"
            raise DataError(f"shard {shard}: its '{name}' are of type {kind}, not lists of {wanted}")


def _check_no_nulls(table: pa.Table, name: str, complain: _Complaint) -> None:
    lists = one_chunk(table, name)
    complain.of_row(lists.is_null().to_numpy(zero_copy_only=False), f"its '{name}' is null")
    if lists.values.null_count:
        has_null = [any(item is None for item in cell) for cell in lists.to_pylist()]
        complain.of_row(np.array(has_null), f"its '{name}' holds a null")


def _strip_marker(
    offsets: IntArray, tokens: IntArray, values: NumberArray, complain: _Complaint
) -> tuple[IntArray, IntArray, NumberArray]:
    lengths = np.diff(offsets)
    heads = offsets[:-1][lengths > 0]
    unmarked = np.zeros(len(lengths), bool)
    unmarked[lengths > 0] = (tokens[heads] != MARKER_TOKEN) | (values[heads] != MARKER_VALUE)
    complain.of_row(unmarked, f"does not begin with the marker (token {MARKER_TOKEN}, value {MARKER_VALUE:g})")
    keep = np.ones(len(tokens), bool)
    keep[heads] = False
    marked = np.concatenate([[0], np.cumsum(lengths > 0)])
    return as_offsets(offsets - marked), tokens[keep], values[keep]


def _to_tokens(offsets: IntArray, tokens: IntArray, known: npt.NDArray[np.bool_], complain: _Complaint) -> IntArray:
    if tokens.size == 0:
        return narrow(tokens)
    # The common case first, without looking up each token: all between the smallest and the largest are known.
    smallest, largest = int(tokens.min()), int(tokens.max())
    if smallest >= 0 and largest < len(known) and known[smallest : largest + 1].all():
        return tokens.astype(np.uint16 if largest <= np.iinfo(np.uint16).max else np.uint32)
    bad = (tokens < 0) | (tokens >= len(known))
    bad[~bad] = ~known[tokens[~bad]]
    complain.of_element(bad, offsets, tokens, "a token outside the vocabulary")
    return narrow(tokens)


def _to_counts(offsets: IntArray, values: NumberArray, complain: _Complaint) -> IntArray:
    if values.size == 0:
        return narrow(values.astype(np.uint32))
    # A NaN fails every comparison, so it is caught as well.
    largest = values.max()
    if not (values.min() >= 0 and largest <= MAX_COUNT):
        out_of_range = ~((values >= 0) & (values <= MAX_COUNT))
        complain.of_element(out_of_range, offsets, values, f"a count that is not from 0 to {MAX_COUNT:,}")
    counts: IntArray = values.astype(np.uint16 if largest <= np.iinfo(np.uint16).max else np.uint32)
    complain.of_element(counts != values, offsets, values, "a count that is not whole")
    return counts
