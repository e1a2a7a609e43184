"""Counts packed for the store: a byte for the way to each gene, a byte for its count, and zstd over both.

A block is an Arrow IPC file with a row a cell. Its genes are numbered by popularity, so that most are near the one
before:

- `gaps`, lists of uint8: from the gene before to this one, of the first from 0.
- `counts`, lists of uint8: the gene's count. 0 counts nothing and only leads on, for genes more than 255 apart; 255
  stands for the next number in `large`.
- `large`, lists of int64: the cell's counts from 255 on.
- `total`, int64: all counts of the cell.

The metadata of its schema have `genes`, how many there are.
"""

import numpy as np
import pyarrow as pa

from tasks.core.base.errors import NumericsError
from tasks.core.numerics.block import (
    Block,
    IntArray,
    NumberArray,
    as_offsets,
    decode_table,
    encode_table,
    list_column,
    narrow,
    offsets_of,
)
from tasks.core.numerics.kernels import checked_offsets, compiled
from tasks.core.numerics.normalize import row_sums

_MOST = 255
# Of a higher level the same counts take hardly less room, and a third longer to decompress.
_ZSTD = pa.ipc.IpcWriteOptions(compression=pa.Codec("zstd", compression_level=1))


def pack(block: Block, genes: int) -> memoryview:
    """Encode counts of so many genes.

    Raises:
        NumericsError: the genes of a cell do not ascend, a count is below 1, or the rows do not fit the values.
    """
    offsets = checked_offsets(block)
    entries, many = np.zeros(block.cells, np.int64), np.zeros(block.cells, np.int64)
    if not _measure(offsets, block.genes, block.values, entries, many):
        raise NumericsError("has cells whose genes do not ascend, or counts below 1")
    gaps, counts = (np.empty(int(entries.sum()), np.uint8) for _ in range(2))
    large = np.empty(int(many.sum()), np.int64)
    _fill(offsets, block.genes, block.values, gaps, counts, large)
    columns = {
        "gaps": _lists(entries, gaps),
        "counts": _lists(entries, counts),
        "large": _lists(many, large),
        "total": pa.array(row_sums(block)),
    }
    return encode_table(pa.table(columns).replace_schema_metadata({"genes": str(genes)}), _ZSTD)


def unpack(data: bytes) -> Block:
    """Decode what `pack` wrote: genes by popularity, ascending in each cell, and their counts.

    Raises:
        NumericsError: it is not what `pack` writes.
    """
    try:
        table = decode_table(data)
        table.validate(full=True)
        genes = int((table.schema.metadata or {})[b"genes"])
        offsets, gaps = list_column(table, "gaps")
        of_counts, counts = list_column(table, "counts")
        _, large = list_column(table, "large")
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        raise NumericsError(f"is no block of counts: {error}") from error
    fits = len(gaps) == len(counts) and np.array_equal(offsets, of_counts)
    if not fits or {gaps.dtype, counts.dtype} != {np.dtype(np.uint8)} or (counts == _MOST).sum() != len(large):
        raise NumericsError("is no block of counts: its lists do not fit each other")
    rows = np.empty(len(offsets), np.int64)
    columns: IntArray = np.empty(len(gaps), np.uint16 if genes <= 2**16 else np.uint32)
    values: IntArray = np.empty(len(gaps), np.uint16 if large.max(initial=0) < 2**16 else np.uint64)
    last = _unpack(offsets.astype(np.int64), gaps, counts, large, rows, columns, values)
    if last >= max(genes, 1):
        raise NumericsError(f"has a count of gene {last:,}, of which there are {genes:,}")
    nonzeros = rows[-1]
    return Block(
        as_offsets(rows), columns[:nonzeros], values[:nonzeros] if len(large) == 0 else narrow(values[:nonzeros])
    )


def _lists(lengths: IntArray, elements: IntArray) -> pa.Array:
    offsets = offsets_of(lengths)
    lists = pa.ListArray if offsets.dtype == np.int32 else pa.LargeListArray
    return lists.from_arrays(offsets, pa.array(elements))


@compiled
def _measure(offsets: IntArray, columns: IntArray, values: NumberArray, entries: IntArray, many: IntArray) -> bool:
    """Find how many entries, and how many large counts, each row has; tell whether it can be packed."""
    for row in range(len(offsets) - 1):
        before = np.int64(0)
        for at in range(offsets[row], offsets[row + 1]):
            gap = np.int64(columns[at]) - before
            if values[at] < 1 or gap < 0 or (gap == 0 and at > offsets[row]):
                return False
            entries[row] += 1 + ((gap - 1) // _MOST if gap else 0)
            many[row] += values[at] >= _MOST
            before = np.int64(columns[at])
    return True


@compiled
def _fill(
    offsets: IntArray, columns: IntArray, values: NumberArray, gaps: IntArray, counts: IntArray, large: IntArray
) -> None:
    to = used = 0
    for row in range(len(offsets) - 1):
        before = np.int64(0)
        for at in range(offsets[row], offsets[row + 1]):
            gap = np.int64(columns[at]) - before
            while gap > _MOST:
                gaps[to] = _MOST
                counts[to] = 0
                to += 1
                gap -= _MOST
            gaps[to] = gap
            if values[at] >= _MOST:
                counts[to] = _MOST
                large[used] = values[at]
                used += 1
            else:
                counts[to] = values[at]
            to += 1
            before = np.int64(columns[at])


@compiled
def _unpack(
    offsets: IntArray,
    gaps: IntArray,
    counts: IntArray,
    large: IntArray,
    rows: IntArray,
    columns: IntArray,
    values: IntArray,
) -> int:
    """Fill in the rows, and give the last gene of all."""
    to = used = last = 0
    for row in range(len(offsets) - 1):
        rows[row] = to
        column = 0
        for at in range(offsets[row], offsets[row + 1]):
            column += gaps[at]
            count = counts[at]
            if count:
                columns[to] = column
                values[to] = count
                if count == _MOST:
                    values[to] = large[used]
                    used += 1
                to += 1
        last = max(last, column)
    rows[len(offsets) - 1] = to
    return last
