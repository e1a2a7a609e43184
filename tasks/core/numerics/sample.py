"""The same cells of every block for the same seed, however the cells are cut into blocks."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tasks.core.numerics.block import Float64Array, IntArray, NumberArray
from tasks.core.numerics.fold import Blocks


def draw(rows: Sequence[int], size: int, rng: np.random.Generator) -> list[IntArray]:
    """Draw at most `size` rows evenly from all, and give those of each block, ascending.

    Args:
        rows: rows of each block.
        size: rows to draw; all, where there are fewer.
        rng: what draws.
    """
    ends = np.cumsum(rows)
    drawn = np.sort(rng.choice(ends[-1], min(int(ends[-1]), size), replace=False))
    starts = ends - rows
    return [
        part - start for part, start in zip(np.split(drawn, np.searchsorted(drawn, starts[1:])), starts, strict=True)
    ]


def take(blocks: Blocks[NumberArray], rows: Sequence[IntArray]) -> Float64Array:
    """Give these rows of each block, below each other."""
    points: Float64Array = _rows_of(blocks, rows).astype(np.float64)
    return points


def pick(blocks: Blocks[IntArray], rows: Sequence[IntArray]) -> IntArray:
    """Give the numbers of these cells of each block, after each other."""
    numbers: IntArray = _rows_of(blocks, rows)
    return numbers


def _rows_of(blocks: Blocks[Any], rows: Sequence[IntArray]) -> Any:
    return np.concatenate(list(blocks.map(lambda of_block, chosen: of_block[chosen], rows)))
