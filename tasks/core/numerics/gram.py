"""Products with the Gram matrix of rows in blocks, as they are or centred."""

from dataclasses import dataclass
from typing import Self

import numpy as np

from tasks.core.base.errors import NumericsError
from tasks.core.numerics.block import Block, Float32Array, Float64Array, FloatArray
from tasks.core.numerics.fold import Blocks
from tasks.core.numerics.moments import Moments


class BlocksGram:
    """`Q -> X^T (X Q)` in the columns that are expressed.

    Args:
        blocks: all rows, or some of them.
        moments: of the columns, over all rows.
    """

    def __init__(self, blocks: Blocks[Block], moments: Moments) -> None:
        self.blocks = blocks
        self.expressed = moments.expressed
        self.extent = moments.extent

    def __call__(self, q_el: Float32Array) -> Float64Array:
        """Multiply a panel of shape (expressed, width).

        Raises:
            NumericsError: a block holds values that are not finite; names it.
        """
        total_gl, _ = self._products(self._spread(q_el), np.zeros(q_el.shape[1]))
        return total_gl[self.expressed, : q_el.shape[1]]

    def _products(self, q_gl: Float32Array, shift_l: Float64Array) -> tuple[Float64Array, Float64Array]:
        # It takes half a second to import, and longer where nothing is compiled yet.
        from tasks.core.numerics.kernels import in_slabs, project_back  # noqa: PLC0415

        slabs = in_slabs(q_gl)

        def product(block: Block) -> _Products:
            # Centred between the two products, where few digits are lost; after both, the mean would drown the rest.
            total_gl, scores_l = project_back(block, slabs, shift_l)
            return _Products(_finite(total_gl), scores_l)

        found: _Products = self.blocks.sum(product)
        return found.total_gl.astype(np.float64, copy=False), found.scores_l

    def _spread(self, q_el: Float32Array) -> Float32Array:
        """Give the panel with a row a column of the blocks."""
        q_gl = np.zeros((self.extent, q_el.shape[1]), np.float32)
        q_gl[self.expressed] = q_el
        return q_gl


class CentredGram(BlocksGram):
    """`Q -> (X - 1 m)^T ((X - 1 m) Q)`, m the mean of all rows, without making `X - 1 m`.

    Of some of the rows it is their part of that sum, for the mean stays that of all: on rows drawn evenly, what the
    whole is like.
    """

    def __init__(self, blocks: Blocks[Block], moments: Moments) -> None:
        super().__init__(blocks, moments)
        self.means = moments.means[: self.extent]

    def __call__(self, q_el: Float32Array) -> Float64Array:
        """Multiply a panel of shape (expressed, width).

        Raises:
            NumericsError: a block holds values that are not finite; names it.
        """
        q_gl = self._spread(q_el)
        total_gl, scores_l = self._products(q_gl, self.means @ q_gl)
        centred_gl = total_gl - np.outer(self.means, scores_l)
        return centred_gl[self.expressed, : q_el.shape[1]]


@dataclass
class _Products:
    """Sums over blocks, added to in place: those of one block are float32, those of more float64.

    Attributes:
        total_gl: of their products with a panel.
        scores_l: of their cells' scores.
    """

    total_gl: FloatArray
    scores_l: Float64Array

    def __iadd__(self, other: Self) -> Self:
        into = self.total_gl if self.total_gl.dtype == np.float64 else None
        self.total_gl = np.add(self.total_gl, other.total_gl, out=into, dtype=np.float64)
        self.scores_l = self.scores_l + other.scores_l
        return self


def _finite(panel: Float32Array) -> Float32Array:
    if not np.isfinite(panel).all():
        raise NumericsError("holds values that are not finite")
    return panel
