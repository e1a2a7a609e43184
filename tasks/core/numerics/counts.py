"""From tokens to the columns of a counts matrix."""

import numpy as np
import numpy.typing as npt

from tasks.core.base.errors import NumericsError
from tasks.core.numerics.block import Block, IntArray, NumberArray, as_offsets, narrow
from tasks.core.numerics.kernels import checked_offsets, compiled


def build_counts(cells: Block, column_of_token: npt.NDArray[np.int32]) -> tuple[Block, int]:
    """Count the molecules of each cell by gene.

    Args:
        cells: tokens and their counts, in any order within a cell.
        column_of_token: for each token, the matrix column of its gene.

    Returns:
        The block, its genes ascending and unique within each cell and its counts at least 1, and how many
        (cell, gene) pairs had been given more than once; those are summed.

    Raises:
        NumericsError: a token is that of no gene, or the rows do not fit the values.
    """
    columns = column_of_token[cells.genes]
    if columns.min(initial=0) < 0:
        raise NumericsError("has tokens that are of no gene")
    genes = int(columns.max(initial=-1)) + 1
    seen = np.zeros(-(-genes // 8), np.uint64)
    sums, rows = np.zeros(8 * len(seen), np.uint64), np.empty(len(cells.offsets), np.int64)
    # With room for one more, which is written but never kept.
    kept, values = np.empty(len(columns) + 1, np.uint32), np.empty(len(columns) + 1, np.uint64)
    repeated = _gather(
        checked_offsets(cells), columns, cells.values, seen.view(np.uint8), seen, sums, rows, kept, values
    )
    nonzeros = rows[-1]
    return Block(as_offsets(rows), narrow(kept[:nonzeros]), narrow(values[:nonzeros])), int(repeated)


@compiled
def _gather(
    offsets: IntArray,
    columns: IntArray,
    values: NumberArray,
    seen: IntArray,
    eight_seen: IntArray,
    sums: IntArray,
    rows: IntArray,
    kept: IntArray,
    totals: IntArray,
) -> int:
    """Sum up each cell in a row as wide as the matrix, and read that in the order of its columns, eight at a time."""
    to = repeated = 0
    for row in range(len(offsets) - 1):
        rows[row] = to
        for at in range(offsets[row], offsets[row + 1]):
            column, value = columns[at], np.uint64(values[at])
            if seen[column]:
                sums[column] += value
                repeated += 1
            else:
                seen[column] = 1
                sums[column] = value
        for eight in range(len(eight_seen)):
            if eight_seen[eight]:
                for column in range(8 * eight, 8 * eight + 8):
                    # Written in any case, and over again by the next one: a branch would be guessed wrong too often.
                    kept[to] = column
                    totals[to] = sums[column]
                    to += (seen[column] != 0) & (sums[column] != 0)
                eight_seen[eight] = 0
    rows[len(offsets) - 1] = to
    return repeated
