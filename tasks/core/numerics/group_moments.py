"""Moments of each gene in each batch of cells: what variable genes are chosen by."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Self

import numpy as np
import pyarrow as pa

from tasks.core.numerics.block import (
    Block,
    Float64Array,
    IntArray,
    NumberArray,
    decode_table,
    encode_table,
    list_column,
)

_FIELDS = {"sums": pa.float64(), "squares": pa.float64(), "expressing": pa.int64()}
# Nonzeros whose copies in other types stay in the processor's cache.
_AT_ONCE = 2**18


@dataclass(frozen=True)
class BatchMoments:
    """Sums over the `n` cells of one batch, mergeable by addition.

    Attributes:
        cells: n.
        sums: (genes,) sum of each gene's values.
        squares: (genes,) sum of their squares.
        expressing: (genes,) cells that have a value of the gene.
    """

    cells: int
    sums: Float64Array
    squares: Float64Array
    expressing: IntArray

    @classmethod
    def of(cls, cells: int, columns: IntArray, values: NumberArray, genes: int) -> Self:
        """Moments of so many cells from what they express: (nonzeros,) columns and values.

        A float32 is squared as float32, for so does scanpy; a whole number exactly.
        """
        total = cls(cells, np.zeros(genes), np.zeros(genes), np.zeros(genes, np.int64))
        for start in range(0, len(columns), _AT_ONCE):
            part = slice(start, start + _AT_ONCE)
            total += cls(0, *_tally(columns[part], values[part], genes))
        return total

    def __add__(self, other: Self) -> Self:
        return type(self)(
            self.cells + other.cells,
            self.sums + other.sums,
            self.squares + other.squares,
            self.expressing + other.expressing,
        )

    @property
    def means(self) -> Float64Array:
        """(genes,) mean of each gene."""
        return self.sums / self.cells

    @property
    def variances(self) -> Float64Array:
        """(genes,) variance of each gene, divided by n - 1; of one cell, zeros."""
        variances = self.squares / self.cells - self.means**2
        return np.asarray(variances * (self.cells / max(self.cells - 1, 1)))


@dataclass(frozen=True)
class GroupMoments:
    """Moments by batch, mergeable by addition; a batch without cells takes no room.

    Attributes:
        batches: moments of each batch that has cells, by its name.
    """

    batches: Mapping[str, BatchMoments]

    @classmethod
    def of(cls, block: Block, codes: IntArray, names: Sequence[str], genes: int) -> Self:
        """Moments of one block, the batch of each cell given as an index in the names; codes of shape (cells,)."""
        return cls(
            {
                name: BatchMoments.of(part.cells, part.genes, part.values, genes)
                for name, part in _by_batch(block, codes, names)
            }
        )

    @classmethod
    def above(cls, block: Block, codes: IntArray, names: Sequence[str], bounds: Mapping[str, Float64Array]) -> Self:
        """Moments, over all the cells, of the values alone that are above the bound of their batch and gene.

        Bounds are of shape (genes,) for each batch.
        """

        def large(part: Block, bound: Float64Array) -> BatchMoments:
            at = np.flatnonzero(part.values > bound[part.genes])
            return BatchMoments.of(part.cells, part.genes[at], part.values[at], len(bound))

        return cls({name: large(part, bounds[name]) for name, part in _by_batch(block, codes, names)})

    def __add__(self, other: Self) -> Self:
        merged = dict(self.batches)
        for name, moments in other.batches.items():
            merged[name] = merged[name] + moments if name in merged else moments
        return type(self)(merged)

    @property
    def whole(self) -> BatchMoments:
        """Moments of all cells together, summed in the order of the batches' names."""
        first, *others = (self.batches[name] for name in sorted(self.batches))
        return sum(others, start=first)

    def renumbered(self, columns: IntArray) -> Self:
        """Give the moments of genes in another order: the first is that of `columns[0]` here, and so on."""
        return type(self)(
            {
                name: BatchMoments(of.cells, of.sums[columns], of.squares[columns], of.expressing[columns])
                for name, of in self.batches.items()
            }
        )

    def to_arrow(self) -> memoryview:
        """Encode as an Arrow IPC file, a row a batch."""
        rows = sorted(self.batches.items())
        columns = {"batch": pa.array([name for name, _ in rows], pa.string())}
        columns["cells"] = pa.array([batch.cells for _, batch in rows], pa.int64())
        for field, kind in _FIELDS.items():
            columns[field] = pa.array([getattr(batch, field) for _, batch in rows], pa.list_(kind))
        return encode_table(pa.table(columns))

    @classmethod
    def from_arrow(cls, data: bytes) -> Self:
        """Decode what `to_arrow` wrote."""
        table = decode_table(data)
        names, cells = table["batch"].to_pylist(), table["cells"].to_pylist()
        columns = [list_column(table, field) for field in _FIELDS]
        return cls(
            {
                name: BatchMoments(
                    cells[row], *(values[offsets[row] : offsets[row + 1]] for offsets, values in columns)
                )
                for row, name in enumerate(names)
            }
        )


def counts_per_million(normalized: Block) -> Block:
    """Undo log1p: the values of which dispersions are taken; in float32, as scanpy does."""
    return Block(normalized.offsets, normalized.genes, np.expm1(normalized.values))


def _tally(columns: IntArray, values: NumberArray, genes: int) -> tuple[Float64Array, Float64Array, IntArray]:
    """(genes,) sums of each gene's values and of their squares, and how many there are."""
    # Bincount would convert them each time it counts.
    columns = columns.astype(np.intp)
    exact = values.astype(np.float64) if np.issubdtype(values.dtype, np.integer) else values
    sums, squares = (np.bincount(columns, weights=of, minlength=genes) for of in (exact, exact * exact))
    return (
        sums.astype(np.float64, copy=False),
        squares.astype(np.float64, copy=False),
        np.bincount(columns, minlength=genes),
    )


def _by_batch(block: Block, codes: IntArray, names: Sequence[str]) -> Iterator[tuple[str, Block]]:
    """Give each batch that has cells in the block, and these, in their order."""
    if (codes[1:] < codes[:-1]).any():
        order = np.argsort(codes, kind="stable")
        codes, block = codes[order], _rows(block, order)
    starts = np.flatnonzero(np.diff(codes, prepend=-1)).tolist()
    for start, stop in pairwise([*starts, block.cells]):
        yield names[codes[start]], block.cut(start, stop)


def _rows(block: Block, order: IntArray) -> Block:
    """Give the block's rows in another order."""
    extent = int(block.genes.max(initial=0)) + 1
    rows = block.matrix(extent)[order]
    return Block(rows.indptr, rows.indices, rows.data)
