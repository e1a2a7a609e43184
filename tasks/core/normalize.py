"""Counts per million, then log1p: scanpy's `normalize_total(target_sum=1e6)` and `log1p`."""

import numpy as np

from tasks.core.block import Block, Float32Array, Float64Array, IntArray, NumberArray

VERSION = 1
TARGET_SUM = 1e6
# Nearly all counts are below this; their logarithms are taken once a cell and count, not once a value.
_TABLE = 16


def normalize(counts: Block, rank_of_gene: IntArray) -> Block:
    """`log1p(x * 1e6 / total of the cell)` as float32, the genes renamed to their rank.

    A cell without counts stays without values.
    """
    rows = counts.rows
    totals = np.bincount(rows, weights=counts.values, minlength=counts.cells)
    scale = np.divide(TARGET_SUM, totals, out=np.zeros(counts.cells), where=totals > 0)
    return Block(counts.offsets, rank_of_gene[counts.genes], _log1p_scaled(counts.values, scale, rows))


def _log1p_scaled(values: NumberArray, scale: Float64Array, rows: IntArray) -> Float32Array:
    table = np.log1p(scale[:, None] * np.arange(_TABLE)).astype(np.float32)
    result: Float32Array = table[rows, np.minimum(values, _TABLE - 1)]
    large = np.flatnonzero(values >= _TABLE)
    result[large] = np.log1p(scale[rows[large]] * values[large])
    return result
