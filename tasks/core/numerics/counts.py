"""From tokens to the columns of a counts matrix."""

import numpy as np
import numpy.typing as npt

from tasks.core.numerics.block import Block, IntArray, narrow

VERSION = 1


def build_counts(cells: Block, column_of_token: npt.NDArray[np.int32]) -> tuple[Block, int]:
    """Count the molecules of each cell by gene.

    Args:
        cells: tokens and their counts, in any order within a cell.
        column_of_token: for each token, the matrix column of its gene.

    Returns:
        The block, its genes ascending and unique within each cell and its counts at least 1, and how many
        (cell, gene) pairs had been given more than once; those are summed.
    """
    columns = column_of_token[cells.genes]
    if _is_canonical(cells, columns):
        return Block(cells.offsets, columns, cells.values), 0
    # Sums of 16-bit counts may need more than 16 bits, those of 32-bit ones more than 32.
    wide = Block(cells.offsets, columns, cells.values.astype(np.uint64))
    matrix = wide.matrix(int(columns.max()) + 1)
    matrix.sum_duplicates()
    repeated = len(columns) - matrix.nnz
    matrix.eliminate_zeros()
    return Block(matrix.indptr, matrix.indices, narrow(matrix.data)), repeated


def _is_canonical(cells: Block, columns: IntArray) -> bool:
    ascending = np.empty(len(columns), bool)
    ascending[:1] = True
    np.greater(columns[1:], columns[:-1], out=ascending[1:])
    starts = cells.offsets[:-1]
    ascending[starts[starts < len(columns)]] = True
    return bool(ascending.all() and (cells.values > 0).all())
