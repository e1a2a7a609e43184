"""How well batches are mixed: the local inverse Simpson's index of Korsunsky et al. 2019.

https://doi.org/10.1038/s41592-019-0619-0; of batches it is called iLISI, of cell types cLISI.

The index of a cell asks for its neighbours among all cells: those in a sample are farther away, and not local.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from tasks.core.numerics.block import Float64Array, IntArray, NumberArray
from tasks.core.numerics.fold import Blocks, one_blas_thread
from tasks.core.numerics.neighbours import perplexity, scaled_to
from tasks.core.numerics.sample import take

_PERPLEXITY = 30
_NEIGHBOURS_OF_PERPLEXITY = 3
# Distances, and differences in a component, that a worker holds at the same time: some ten megabytes.
_AT_ONCE = 2**20
# Of the largest square in a product of matrices: more than it is off by, however the matrices are cut.
_ROUNDING = 1e-12


def lisi(blocks: Blocks[NumberArray], batches: Blocks[IntArray], queries: Sequence[IntArray]) -> Float64Array:
    """Effective number of batches among the neighbours of some of the cells.

    The 90 nearest of all cells, the cell itself not among them, are weighted by `exp(-distance * rate)`, with each
    cell's rate such that the perplexity of the weights is 30; the index is the inverse of the probability that two
    neighbours drawn by weight are of one batch. With fewer cells all are neighbours, and the perplexity a third of
    their number. Takes a pass over all cells, and `cells * queries * components` multiplications.

    Args:
        blocks: (cells, components) all cells.
        batches: the number of each cell's batch, in the same blocks.
        queries: rows of each block whose index is asked for.

    Returns:
        (queries,) from 1 to the number of batches, in the cells' order.
    """
    neighbours = min(_NEIGHBOURS_OF_PERPLEXITY * _PERPLEXITY, sum(blocks.rows) - 1)
    query_qk = take(blocks, queries)
    if neighbours < 1:
        return np.ones(len(query_qk))
    firsts = np.cumsum([0, *map(len, queries)])[:-1]

    def nearest(z_nk: NumberArray, batches_n: IntArray, rows: IntArray, first: int) -> _Nearest:
        return _Nearest.of(z_nk.astype(np.float64), batches_n, query_qk, (int(first), rows), neighbours)

    with one_blas_thread():
        found = blocks.sum(nearest, batches, queries, firsts)
    distances_qj = np.sqrt(found.squares_qj)
    target = max(neighbours / _NEIGHBOURS_OF_PERPLEXITY, 1.0)
    weights_qj = scaled_to(target, perplexity, distances_qj - distances_qj[:, :1])
    shares_qj = weights_qj / weights_qj.sum(axis=1, keepdims=True)
    of_batch = ((shares_qj * (found.batches_qj == batch)).sum(axis=1) for batch in np.unique(found.batches_qj))
    return np.asarray(1.0 / sum(share_q**2 for share_q in of_batch))


def mixing(
    blocks: Blocks[NumberArray], batches: Blocks[IntArray], queries: Sequence[IntArray], number: int
) -> float | None:
    """Median iLISI of some of the cells, scaled as scib does (Luecken et al. 2022): 0 for batches apart, 1 for mixed.

    Args:
        blocks: (cells, components) all cells.
        batches: the number of each cell's batch, in the same blocks.
        queries: rows of each block whose neighbours are looked at.
        number: of batches that have cells.

    Returns:
        From 0 to 1, where 1 asks for batches of one size; None for fewer than two batches.
    """
    return None if number < 2 else float((np.median(lisi(blocks, batches, queries)) - 1) / (number - 1))


@dataclass(frozen=True)
class _Nearest:
    """The nearest cells of each query among those seen, mergeable by addition in the cells' order.

    Of cells that are equally near the first ones are taken, so that it does not matter how the cells are cut.

    Attributes:
        squares_qj: squared distances, ascending; infinite where fewer cells were seen.
        batches_qj: the batch of each.
    """

    squares_qj: Float64Array
    batches_qj: IntArray

    @classmethod
    def of(
        cls, z_nk: Float64Array, batches_n: IntArray, query_qk: Float64Array, own: tuple[int, IntArray], number: int
    ) -> Self:
        """Find so many among the cells of a block; `own` has the first query that is of the block, and their rows."""
        found = cls(np.full((len(query_qk), number), np.inf), np.zeros((len(query_qk), number), np.int64))
        first, rows = own
        step = max(_AT_ONCE // max(len(z_nk), 1), 1)
        for start in range(0, len(query_qk) if len(z_nk) else 0, step):
            part = slice(start, min(start + step, len(query_qk)))
            near_pn = _near(z_nk, query_qk[part], number)
            mine = np.flatnonzero((first + np.arange(len(rows)) >= start) & (first + np.arange(len(rows)) < part.stop))
            near_pn[first + mine - start, rows[mine]] = False
            which_p, which_n = np.nonzero(near_pn)
            squares = _squares(z_nk, query_qk[part], which_p, which_n)
            order = np.lexsort((squares, which_p))
            which_p, which_n, squares = which_p[order], which_n[order], squares[order]
            rank = np.arange(len(which_p)) - np.searchsorted(which_p, which_p)
            kept = rank < number
            at = which_p[kept] + start, rank[kept]
            found.squares_qj[at], found.batches_qj[at] = squares[kept], batches_n[which_n[kept]]
        return found

    def __add__(self, other: Self) -> Self:
        squares_qj = np.concatenate([self.squares_qj, other.squares_qj], axis=1)
        batches_qj = np.concatenate([self.batches_qj, other.batches_qj], axis=1)
        order_qj = np.argsort(squares_qj, axis=1, kind="stable")[:, : self.squares_qj.shape[1]]
        return type(self)(
            np.take_along_axis(squares_qj, order_qj, axis=1), np.take_along_axis(batches_qj, order_qj, axis=1)
        )


def _near(z_nk: Float64Array, query_pk: Float64Array, number: int) -> npt.NDArray[np.bool_]:
    """(p, n) which cells may be among the nearest so many and one, by a product of matrices: a few too many."""
    of_cells_n, of_queries_p = (np.einsum("nk,nk->n", of, of) for of in (z_nk, query_pk))
    squares_pn = of_queries_p[:, None] + of_cells_n - 2.0 * (query_pk @ z_nk.T)
    if number + 1 >= len(z_nk):
        return np.ones(squares_pn.shape, bool)
    bound_p = np.partition(squares_pn, number, axis=1)[:, number]
    return np.asarray(squares_pn <= bound_p[:, None] + _ROUNDING * (of_queries_p[:, None] + of_cells_n.max()))


def _squares(z_nk: Float64Array, query_pk: Float64Array, which_p: IntArray, which_n: IntArray) -> Float64Array:
    """Squared distances of pairs, each by itself: the same to the last bit whatever the other pairs are."""
    squares = np.empty(len(which_p))
    step = max(_AT_ONCE // max(z_nk.shape[1], 1), 1)
    for start in range(0, len(squares), step):
        part = slice(start, start + step)
        squares[part] = ((query_pk[which_p[part]] - z_nk[which_n[part]]) ** 2).sum(axis=1)
    return squares
