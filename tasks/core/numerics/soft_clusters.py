"""Soft K-means by angle, with a log weight for each batch and cluster: what one block adds to the sums over all.

Harmony's assignment of a cell of batch b to the clusters is `softmax(-distance / sigma + penalty[b])`, where the
distance to a centre is `2 (1 - cosine)` (Korsunsky et al. 2019, https://doi.org/10.1038/s41592-019-0619-0). It depends
on the centres and penalties alone, so it is computed anew in each pass and never kept.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np

from tasks.core.numerics.block import Float32Array, Float64Array, IntArray, NumberArray
from tasks.core.numerics.membership import membership


@dataclass(frozen=True)
class SoftClusters:
    """Clusters of all batches together.

    Attributes:
        centres_ck: of length 1.
        penalty_bc: log weight of each cluster for the cells of each batch.
        sigma: how soft the assignment is.
    """

    centres_ck: Float64Array
    penalty_bc: Float64Array
    sigma: float

    def assign(self, z_nk: NumberArray, batches_n: IntArray) -> tuple[Float32Array, Float64Array]:
        """Give the assignment of each cell, (n, c), of sum 1, and the log of what it was divided by, (n,)."""
        scores_nc = to_length_1(z_nk) @ self.centres_ck.T.astype(np.float32)
        scores_nc *= np.float32(2.0 / self.sigma)
        scores_nc += (self.penalty_bc - 2.0 / self.sigma).astype(np.float32)[batches_n]
        highest_n = scores_nc.max(axis=1, keepdims=True)
        scores_nc -= highest_n
        np.exp(scores_nc, out=scores_nc)
        totals_n = scores_nc.sum(axis=1, keepdims=True)
        scores_nc /= totals_n
        return scores_nc, (np.log(totals_n.astype(np.float64)) + highest_n)[:, 0]


@dataclass(frozen=True)
class Masses:
    """Sums of assignments, mergeable by addition.

    Attributes:
        observed_bc: sum over the cells of each batch, of each cluster.
        log_divisors: sum over all cells of the log of what the assignment was divided by.
    """

    observed_bc: Float64Array
    log_divisors: float

    @classmethod
    def of(cls, assigned_nc: Float32Array, log_divisors_n: Float64Array, batches_n: IntArray, batches: int) -> Self:
        """Sum up a block."""
        return cls(membership(batches_n, batches) @ assigned_nc, float(log_divisors_n.sum()))

    def __add__(self, other: Self) -> Self:
        return type(self)(self.observed_bc + other.observed_bc, self.log_divisors + other.log_divisors)


@dataclass(frozen=True)
class RidgeSums:
    """All that the ridge regressions of the embedding on the batch, one a cluster, need; mergeable by addition.

    Attributes:
        masses: sums of the assignments, which are the regressions' weights.
        embedded_bck: sum of the embedding of each batch's cells, weighted by their assignment to each cluster.
    """

    masses: Masses
    embedded_bck: Float64Array

    @classmethod
    def of(cls, masses: Masses, assigned_nc: Float32Array, z_nk: NumberArray, batches_n: IntArray) -> Self:
        """Sum up a block."""
        embedded_bck = np.zeros((*masses.observed_bc.shape, z_nk.shape[1]))
        for batch, cells in by_batch(batches_n):
            embedded_bck[batch] = assigned_nc[cells].T.astype(np.float64) @ z_nk[cells].astype(np.float64)
        return cls(masses, embedded_bck)

    def __add__(self, other: Self) -> Self:
        return type(self)(self.masses + other.masses, self.embedded_bck + other.embedded_bck)


def by_batch(batches_n: IntArray) -> Iterator[tuple[int, IntArray]]:
    """Yield each batch that there is, and its cells in order."""
    order = np.argsort(batches_n, kind="stable")
    present, starts = np.unique(batches_n[order], return_index=True)
    ends = np.append(starts[1:], len(order))
    for batch, start, end in zip(present.tolist(), starts, ends, strict=False):
        yield batch, order[start:end]


def to_length_1(z_nk: NumberArray) -> Float32Array:
    """Scale each row to length 1; zeros stay."""
    lengths = np.sqrt(np.einsum("nk,nk->n", z_nk, z_nk, dtype=np.float64))
    scaled: Float32Array = (z_nk / np.where(lengths > 0, lengths, 1.0)[:, None]).astype(np.float32)
    return scaled
