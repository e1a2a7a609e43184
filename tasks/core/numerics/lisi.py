"""How well batches are mixed: the local inverse Simpson's index of Korsunsky et al. 2019.

https://doi.org/10.1038/s41592-019-0619-0; of batches it is called iLISI, of cell types cLISI.
"""

import numpy as np
from sklearn.neighbors import NearestNeighbors

from tasks.core.numerics.block import Float64Array, IntArray, NumberArray
from tasks.core.numerics.neighbours import perplexity, scaled_to

_PERPLEXITY = 30
_NEIGHBOURS_OF_PERPLEXITY = 3


def lisi(sample_nk: NumberArray, batches_n: IntArray) -> Float64Array:
    """Effective number of batches among the neighbours of each cell.

    The 90 nearest neighbours, the cell not among them, are weighted by `exp(-distance * rate)`, with each cell's rate
    such that the perplexity of the weights is 30; the index is the inverse of the probability that two neighbours
    drawn by weight are of one batch. With fewer cells all are neighbours, and the perplexity a third of their number.

    Args:
        sample_nk: (cells, components) a sample of the cells; costs its square, so take 5,000 at most.
        batches_n: the number of each cell's batch.

    Returns:
        (cells,) from 1 to the number of batches.
    """
    neighbours = min(_NEIGHBOURS_OF_PERPLEXITY * _PERPLEXITY, len(sample_nk) - 1)
    if neighbours < 1:
        return np.ones(len(sample_nk))
    search = NearestNeighbors(n_neighbors=neighbours, algorithm="brute").fit(sample_nk.astype(np.float64))
    distances_nj, which_nj = search.kneighbors()
    target = max(neighbours / _NEIGHBOURS_OF_PERPLEXITY, 1.0)
    weights_nj = scaled_to(target, perplexity, distances_nj - distances_nj[:, :1])
    shares_nj = weights_nj / weights_nj.sum(axis=1, keepdims=True)
    of_neighbour_nj = batches_n[which_nj]
    together_n = sum((shares_nj * (of_neighbour_nj == batch)).sum(axis=1) ** 2 for batch in np.unique(batches_n))
    return np.asarray(1.0 / together_n)


def mixing(sample_nk: NumberArray, batches_n: IntArray) -> float | None:
    """Median iLISI of a sample, scaled as scib does (Luecken et al. 2022): 0 for batches apart, 1 for all mixed.

    Returns:
        From 0 to 1, where 1 asks for batches of one size; None for fewer than two batches.
    """
    batches = len(np.unique(batches_n))
    return None if batches < 2 else float((np.median(lisi(sample_nk, batches_n)) - 1) / (batches - 1))
