"""First and second moments of each gene: all that is needed for the variances."""

from dataclasses import dataclass
from typing import Self

import numpy as np
import pyarrow as pa

from tasks.core.numerics.block import Block, Float64Array, IntArray, decode_table, encode_table


@dataclass(frozen=True)
class Moments:
    """Sums over `n` cells, mergeable by addition.

    Attributes:
        cells: n.
        sums: (genes,) sum of each gene's values.
        squares: (genes,) sum of their squares.
    """

    cells: int
    sums: Float64Array
    squares: Float64Array

    @classmethod
    def of(cls, block: Block, genes: int) -> Self:
        """Moments of one block."""
        # It takes a second to import, and longer where nothing is compiled yet.
        from tasks.core.numerics.kernels import tally  # noqa: PLC0415

        wide = Block(block.offsets, block.genes, block.values.astype(np.float64))
        sums, squares, _ = tally(wide, np.zeros(block.cells, np.int64), 1, genes)
        return cls(block.cells, sums[0], squares[0])

    def __add__(self, other: Self) -> Self:
        return type(self)(self.cells + other.cells, self.sums + other.sums, self.squares + other.squares)

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
    def variances(self) -> Float64Array:
        """(genes,) variance of each gene, divided by n as sklearn's TruncatedSVD does."""
        return np.maximum(self.squares / self.cells - self.means**2, 0.0)

    def to_arrow(self) -> memoryview:
        """Encode as an Arrow IPC file."""
        schema = pa.schema([("sums", pa.float64()), ("squares", pa.float64())], metadata={"cells": str(self.cells)})
        return encode_table(pa.table([self.sums, self.squares], schema=schema))

    @classmethod
    def from_arrow(cls, data: bytes) -> Self:
        """Decode what `to_arrow` wrote."""
        table = decode_table(data)
        sums, squares = (table.column(name).to_numpy() for name in ("sums", "squares"))
        return cls(int((table.schema.metadata or {})[b"cells"]), sums, squares)
