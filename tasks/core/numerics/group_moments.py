"""Moments of each gene in each batch of cells: what variable genes are chosen by."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import pyarrow as pa

from tasks.core.numerics.block import (
    Block,
    Float64Array,
    IntArray,
    decode_table,
    encode_table,
    list_column,
    offsets_of,
)

_FIELDS = {"sums": pa.float64(), "squares": pa.float64(), "expressing": pa.int64()}


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
        """Moments of one block, the batch of each cell given as an index in the names; codes of shape (cells,).

        A float32 is squared as float32, for so does scanpy; a whole number exactly.
        """
        # It takes a second to import, and longer where nothing is compiled yet.
        from tasks.core.numerics.kernels import tally  # noqa: PLC0415

        there, places = np.unique(codes, return_inverse=True)
        cells = np.bincount(places, minlength=len(there)).tolist()
        sums = zip(cells, *tally(block, places, len(there), genes), strict=True)
        return cls({names[code]: BatchMoments(*of) for code, of in zip(there, sums, strict=True)})

    @classmethod
    def above(cls, block: Block, codes: IntArray, names: Sequence[str], bounds: Mapping[str, Float64Array]) -> Self:
        """Moments, over all the cells, of the values alone that are above the bound of their batch and gene.

        Bounds are of shape (genes,) for each batch.
        """
        there, places = np.unique(codes, return_inverse=True)
        bounds_bg = np.stack([bounds[names[code]] for code in there])
        lengths = np.diff(block.offsets)
        large = np.flatnonzero(block.values > bounds_bg[np.repeat(places, lengths), block.genes])
        cell = np.repeat(np.arange(block.cells), lengths)[large]
        offsets = offsets_of(np.bincount(cell, minlength=block.cells))
        return cls.of(Block(offsets, block.genes[large], block.values[large]), codes, names, bounds_bg.shape[1])

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
