"""How much one property of cells tells of another: from a table of how often they occur together."""

import numpy as np

from tasks.core.numerics.block import IntArray


def cramers_v(counts_rc: IntArray) -> float:
    """Cramer's V of two properties, from 0 (one tells nothing of the other) to 1 (one is the other).

    Corrected for what chance gives where there are many values and few cells (Bergsma 2013, Journal of the Korean
    Statistical Society 42). Of a property with one value it is 0.

    Args:
        counts_rc: (r, c) cells with each pair of values.
    """
    held_rc = counts_rc[counts_rc.any(axis=1)][:, counts_rc.any(axis=0)].astype(np.float64)
    rows, columns = held_rc.shape
    cells = held_rc.sum()
    if min(rows, columns) < 2 or cells < 2:
        return 0.0
    expected_rc = np.outer(held_rc.sum(axis=1), held_rc.sum(axis=0)) / cells
    phi2 = float((held_rc**2 / expected_rc).sum() / cells - 1.0)
    unbiased = max(0.0, phi2 - (rows - 1) * (columns - 1) / (cells - 1))
    shrunk = min(rows - (rows - 1) ** 2 / (cells - 1), columns - (columns - 1) ** 2 / (cells - 1)) - 1
    return float(min(1.0, np.sqrt(unbiased / shrunk))) if shrunk > 0 else 0.0
