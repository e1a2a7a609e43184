"""First and second moments of each gene, and the cells that express it: what variances and effects are made of."""

from dataclasses import dataclass
from typing import Self

import numpy as np
import pyarrow as pa

from tasks.core.numerics.block import Block, Float64Array, IntArray, decode_table, encode_table

_FIELDS = {"sums": pa.float64(), "squares": pa.float64(), "expressing": pa.int64()}


@dataclass(frozen=True)
class Moments:
    """Sums over `n` cells, mergeable by addition.

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
    def none(cls, genes: int) -> Self:
        """Moments of no cells."""
        return cls(0, np.zeros(genes), np.zeros(genes), np.zeros(genes, np.int64))

    @classmethod
    def of(cls, block: Block, genes: int) -> Self:
        """Moments of one block, its values squared as float64."""
        exact = Block(block.offsets, block.genes, block.values.astype(np.float64))
        return cls.by_group(exact, np.zeros(block.cells, np.int64), 1, genes)[0]

    @classmethod
    def by_group(cls, block: Block, groups_n: IntArray, groups: int, genes: int) -> list[Self]:
        """Moments of each group of a block's cells; a float32 is squared as float32, a whole number exactly."""
        # It takes half a second to import, and longer where nothing is compiled yet.
        from tasks.core.numerics.kernels import tally  # noqa: PLC0415

        cells = np.bincount(groups_n, minlength=groups).tolist()
        return [cls(*of) for of in zip(cells, *tally(block, groups_n, groups, genes), strict=True)]

    def __add__(self, other: Self) -> Self:
        return type(self)(
            self.cells + other.cells,
            self.sums + other.sums,
            self.squares + other.squares,
            self.expressing + other.expressing,
        )

    def __sub__(self, part: Self) -> Self:
        """Give the moments of all cells but those of a part."""
        expressing = self.expressing - part.expressing
        # What is left of a gene that no other cell expresses would be rounding.
        sums, squares = (
            np.where(expressing > 0, np.maximum(whole - of_part, 0.0), 0.0)
            for whole, of_part in ((self.sums, part.sums), (self.squares, part.squares))
        )
        return type(self)(self.cells - part.cells, sums, squares, expressing)

    def renumbered(self, columns: IntArray) -> Self:
        """Give the moments of genes in another order: the first is that of `columns[0]` here, and so on."""
        return type(self)(self.cells, self.sums[columns], self.squares[columns], self.expressing[columns])

    @property
    def expressed(self) -> IntArray:
        """Genes that have any value but zero, ascending."""
        return np.flatnonzero(self.squares > 0)

    @property
    def extent(self) -> int:
        """Genes up to the last that is expressed."""
        return int(self.expressed[-1]) + 1 if len(self.expressed) else 0

    @property
    def means(self) -> Float64Array:
        """(genes,) mean of each gene."""
        return self.sums / self.cells

    @property
    def shares(self) -> Float64Array:
        """(genes,) share of the cells that express each gene."""
        return self.expressing / self.cells

    @property
    def variances(self) -> Float64Array:
        """(genes,) variance of each gene, divided by n as sklearn's TruncatedSVD does."""
        return np.maximum(self.squares / self.cells - self.means**2, 0.0)

    @property
    def sample_variances(self) -> Float64Array:
        """(genes,) variance of each gene, divided by n - 1 as scanpy does; of one cell, zeros."""
        return np.asarray(self.variances * (self.cells / max(self.cells - 1, 1)))

    def to_arrow(self) -> memoryview:
        """Encode as an Arrow IPC file."""
        schema = pa.schema(list(_FIELDS.items()), metadata={"cells": str(self.cells)})
        return encode_table(pa.table([self.sums, self.squares, self.expressing], schema=schema))

    @classmethod
    def from_arrow(cls, data: bytes) -> Self:
        """Decode what `to_arrow` wrote."""
        table = decode_table(data)
        return cls(int((table.schema.metadata or {})[b"cells"]), *(table.column(name).to_numpy() for name in _FIELDS))
