"""Counts per million, then log1p: scanpy's `normalize_total(target_sum=1e6)` and `log1p`."""

import numpy as np

from tasks.core.numerics.block import Block, IntArray
from tasks.core.references.cells import Normalization

TARGET_SUM = 1e6
NORMALIZATION = Normalization(target_sum=TARGET_SUM, log1p=True, version=1)
# Nearly all counts are below this; their logarithms are taken once a cell and count, not once a value.
_TABLE = 16


def normalize(counts: Block) -> Block:
    """`log1p(x * 1e6 / total of the cell)` as float32; a cell without counts stays without values."""
    # It takes half a second to import, and longer where nothing is compiled yet.
    from tasks.core.numerics.kernels import look_up  # noqa: PLC0415

    totals = row_sums(counts)
    scale = np.divide(TARGET_SUM, totals, out=np.zeros(counts.cells), where=totals > 0)
    table = np.log1p(scale[:, None] * np.arange(_TABLE)).astype(np.float32)
    values = look_up(counts, table)
    large = np.flatnonzero(counts.values >= _TABLE)
    rows = np.searchsorted(counts.offsets, large, side="right") - 1
    values[large] = np.log1p(scale[rows] * counts.values[large])
    return Block(counts.offsets, counts.genes, values)


def row_sums(block: Block) -> IntArray:
    """(cells,) sum of each cell's values."""
    sums = np.zeros(block.cells, np.int64)
    occupied = np.diff(block.offsets) > 0
    if occupied.any():
        sums[occupied] = np.add.reduceat(block.values, block.offsets[:-1][occupied], dtype=np.int64)
    return sums
