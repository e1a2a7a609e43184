"""A block: some cells as compressed sparse rows, in memory and as an Arrow file.

The file has one row a cell and two list columns, `genes` and `values`, so that any Arrow reader can open it; the
lists' offsets are the row pointers of the matrix, their elements its columns and values.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import scipy.sparse as sp

IntArray = npt.NDArray[np.integer[Any]]
NumberArray = npt.NDArray[np.number[Any]]
Float32Array = npt.NDArray[np.float32]
Float64Array = npt.NDArray[np.float64]
FloatArray = npt.NDArray[np.floating[Any]]

# Matrices of as many values and more have 64-bit row pointers.
_MOST_SHORT = np.iinfo(np.int32).max
_OPTIONS = pa.ipc.IpcWriteOptions(compression="lz4")


@dataclass(frozen=True)
class Block:
    """Sparse rows of `n` cells.

    Attributes:
        offsets: (n + 1,) row pointers, from 0.
        genes: (nonzeros,) what each value belongs to: a token, or a column of the matrix.
        values: (nonzeros,) counts, or normalized values.
    """

    offsets: IntArray
    genes: IntArray
    values: NumberArray

    @property
    def cells(self) -> int:
        """Number of rows."""
        return len(self.offsets) - 1

    @property
    def nbytes(self) -> int:
        """Bytes of its arrays."""
        return self.offsets.nbytes + self.genes.nbytes + self.values.nbytes

    def matrix(self, genes: int) -> Any:
        """CSR matrix of shape (cells, genes), sharing memory where the types allow."""
        offsets = as_offsets(self.offsets)
        indices = self.genes.astype(offsets.dtype, copy=False)
        return sp.csr_array((self.values, indices, offsets), shape=(self.cells, genes))

    def cut(self, start: int, stop: int) -> "Block":
        """Give the rows from start to before stop."""
        first, last = self.offsets[start], self.offsets[stop]
        return Block(self.offsets[start : stop + 1] - first, self.genes[first:last], self.values[first:last])

    def take(self, rows: IntArray) -> "Block":
        """Give some rows, in the order given."""
        lengths = np.diff(self.offsets)[rows]
        offsets = offsets_of(lengths)
        # Each value's place: the start of its row here, and as far from it as it is there.
        where = np.repeat(self.offsets[:-1][rows] - offsets[:-1], lengths) + np.arange(offsets[-1])
        return Block(offsets, self.genes[where], self.values[where])

    @classmethod
    def join(cls, blocks: Sequence["Block"]) -> "Block":
        """Put blocks below each other."""
        if len(blocks) == 1:
            return blocks[0]
        lengths = np.concatenate([np.diff(block.offsets) for block in blocks])
        return cls(
            offsets_of(lengths),
            np.concatenate([block.genes for block in blocks]),
            np.concatenate([block.values for block in blocks]),
        )

    def to_arrow(self) -> memoryview:
        """Encode as an Arrow IPC file, compressed with lz4, the genes in the fewest bytes that hold them."""
        offsets = as_offsets(self.offsets)
        lists = pa.ListArray if offsets.dtype == np.int32 else pa.LargeListArray
        genes, values = (lists.from_arrays(offsets, pa.array(part)) for part in (narrow(self.genes), self.values))
        return encode_table(pa.table({"genes": genes, "values": values}))

    @classmethod
    def from_arrow(cls, data: bytes) -> "Block":
        """Decode what `to_arrow` wrote."""
        table = decode_table(data)
        genes, values = (list_column(table, name) for name in ("genes", "values"))
        return cls(genes[0], genes[1], values[1])


def in_blocks(blocks: Iterable[Block], size: int) -> Iterator[Block]:
    """Join and cut consecutive blocks into blocks of `size` cells, the last one smaller."""
    waiting: list[Block] = []
    for block in blocks:
        waiting.append(block)
        while sum(part.cells for part in waiting) >= size:
            joined = Block.join(waiting)
            yield joined.cut(0, size)
            waiting = [joined.cut(size, joined.cells)] if joined.cells > size else []
    if waiting:
        yield Block.join(waiting)


def offsets_of(lengths: IntArray) -> IntArray:
    """Give the row pointers of rows of these lengths."""
    return as_offsets(np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]))


def as_offsets(ascending: IntArray) -> IntArray:
    """Give row pointers as int32 if they fit, else as int64."""
    return ascending.astype(np.int32 if ascending[-1] <= _MOST_SHORT else np.int64, copy=False)


def narrow(numbers: IntArray) -> IntArray:
    """Give non-negative integers as the first of uint16, uint32 and uint64 that they fit."""
    largest = int(numbers.max(initial=0))
    return numbers.astype(np.promote_types(np.uint16, np.min_scalar_type(largest)), copy=False)


def list_column(table: pa.Table, name: str) -> tuple[IntArray, Any]:
    """Offsets from 0, and elements, of a list column without nulls."""
    lists = one_chunk(table, name)
    offsets = lists.offsets.to_numpy()
    elements = lists.values.to_numpy(zero_copy_only=False)[offsets[0] : offsets[-1]]
    return offsets - offsets[0], elements


def one_chunk(table: pa.Table, name: str) -> Any:
    """Give a column as one Arrow array."""
    column = table.column(name)
    # Combining copies, even a single chunk.
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def encode_table(table: pa.Table, options: Any = _OPTIONS) -> memoryview:
    """Encode a table as an Arrow IPC file."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema, options=options) as writer:
        writer.write_table(table.combine_chunks())
    return memoryview(sink.getvalue())


def decode_table(data: bytes) -> pa.Table:
    """Decode what `encode_table` wrote."""
    return pa.ipc.open_file(pa.BufferReader(data)).read_all()


def encode_matrix(matrix: NumberArray) -> memoryview:
    """Encode a dense (rows, columns) matrix as an Arrow IPC file with one fixed-size list column, `row`."""
    flat = pa.array(np.ascontiguousarray(matrix).reshape(-1))
    return encode_table(pa.table({"row": pa.FixedSizeListArray.from_arrays(flat, matrix.shape[1])}))


def decode_matrix(data: bytes) -> npt.NDArray[Any]:
    """Decode what `encode_matrix` wrote."""
    rows = one_chunk(decode_table(data), "row")
    matrix: npt.NDArray[Any] = rows.values.to_numpy().reshape(-1, rows.type.list_size)
    return matrix
