"""Which group each cell is in, as a matrix: its product with what is known of cells sums that up by group."""

import numpy as np
import scipy.sparse as sp

from tasks.core.numerics.block import IntArray


def membership(groups_n: IntArray, groups: int) -> sp.csr_array:
    """Give a matrix of shape (groups, cells), 1 where a cell is in a group and 0 elsewhere."""
    cells = len(groups_n)
    return sp.csr_array((np.ones(cells), (groups_n, np.arange(cells))), shape=(groups, cells))
