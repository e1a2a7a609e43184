"""Counts per million, then log1p: scanpy's `normalize_total(target_sum=1e6)` and `log1p`."""

import numpy as np

from tasks.core.numerics.block import Block, Float32Array, Float64Array, IntArray
from tasks.core.references.cells import Normalization

VERSION = 1
TARGET_SUM = 1e6
NORMALIZATION = Normalization(target_sum=TARGET_SUM, log1p=True, version=VERSION)
# Nearly all counts are below this; their logarithms are taken once a cell and count, not once a value.
_TABLE = 16


def normalize(counts: Block, rank_of_gene: IntArray) -> Block:
    """`log1p(x * 1e6 / total of the cell)` as float32, the genes renamed to their rank.

    A cell without counts stays without values.
    """
    totals = row_sums(counts)
    scale = np.divide(TARGET_SUM, totals, out=np.zeros(counts.cells), where=totals > 0)
    return Block(counts.offsets, rank_of_gene[counts.genes], _log1p_scaled(counts, scale))


def row_sums(block: Block) -> IntArray:
    """(cells,) sum of each cell's values."""
    sums = np.zeros(block.cells, np.int64)
    occupied = np.diff(block.offsets) > 0
    if occupied.any():
        sums[occupied] = np.add.reduceat(block.values, block.offsets[:-1][occupied], dtype=np.int64)
    return sums


def _log1p_scaled(counts: Block, scale: Float64Array) -> Float32Array:
    table = np.log1p(scale[:, None] * np.arange(_TABLE)).astype(np.float32)
    first_of_cell = np.arange(counts.cells, dtype=np.int32) * _TABLE
    where = np.repeat(first_of_cell, np.diff(counts.offsets))
    where += np.minimum(counts.values, _TABLE - 1).astype(np.int32)
    result = table.ravel()[where]
    large = np.flatnonzero(counts.values >= _TABLE)
    result[large] = np.log1p(scale[where[large] // _TABLE] * counts.values[large])
    return result
