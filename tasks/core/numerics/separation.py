"""How well clusters are apart: Calinski-Harabasz and Davies-Bouldin of all cells, silhouette of a sample."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy.spatial.distance import cdist
from sklearn.metrics import silhouette_score

from tasks.core.numerics.block import Float64Array, IntArray, NumberArray
from tasks.core.numerics.fold import Blocks, one_blas_thread
from tasks.core.numerics.membership import membership

# Distances between clusters that are held at the same time, of which there are as many as the square of their number.
_AT_ONCE = 2**20


@dataclass(frozen=True)
class Separation:
    """Scores of a clustering, as scikit-learn defines them.

    Attributes:
        calinski_harabasz: variance between clusters over variance within (1974); higher is better.
        davies_bouldin: mean over the clusters of how near the most similar other one is (1979); lower is better.
    """

    calinski_harabasz: float
    davies_bouldin: float


@dataclass(frozen=True)
class _Sums:
    sizes_c: IntArray
    sums_ck: Float64Array

    @classmethod
    def of(cls, z_nk: NumberArray, labels_n: IntArray, clusters: int) -> Self:
        sums_ck = membership(labels_n, clusters) @ z_nk.astype(np.float64)
        return cls(np.bincount(labels_n, minlength=clusters), sums_ck)

    def __add__(self, other: Self) -> Self:
        return type(self)(self.sizes_c + other.sizes_c, self.sums_ck + other.sums_ck)


@dataclass(frozen=True)
class _Spread:
    """Sums over each cluster of the distances to its mean, and of their squares over all."""

    distances_c: Float64Array
    squares: float

    @classmethod
    def of(cls, z_nk: NumberArray, labels_n: IntArray, means_ck: Float64Array) -> Self:
        away_nk = z_nk.astype(np.float64) - means_ck[labels_n]
        squares_n = np.einsum("nk,nk->n", away_nk, away_nk)
        return cls(membership(labels_n, len(means_ck)) @ np.sqrt(squares_n), float(squares_n.sum()))

    def __add__(self, other: Self) -> Self:
        return type(self)(self.distances_c + other.distances_c, self.squares + other.squares)


def separation(blocks: Blocks[NumberArray], labels: Blocks[IntArray], clusters: int) -> Separation | None:
    """Score a clustering in two passes over the embedding.

    Args:
        blocks: the embedding, (cells, components).
        labels: of each block, the number of each cell's cluster.
        clusters: how many there are; those without cells count for nothing.

    Returns:
        The scores; None where they are not defined: with fewer than two clusters, or each cell a cluster.
    """
    with one_blas_thread():
        sums = blocks.sum(lambda z_nk, labels_n: _Sums.of(z_nk, labels_n, clusters), labels)
        if not 2 <= np.count_nonzero(sums.sizes_c) < sums.sizes_c.sum():
            return None
        means_ck = sums.sums_ck / np.maximum(sums.sizes_c, 1)[:, None]
        spread = blocks.sum(lambda z_nk, labels_n: _Spread.of(z_nk, labels_n, means_ck), labels)
    present = sums.sizes_c > 0
    sizes_c, means_ck = sums.sizes_c[present], means_ck[present]
    return Separation(
        _calinski_harabasz(sizes_c, means_ck, spread.squares),
        _davies_bouldin(spread.distances_c[present] / sizes_c, means_ck),
    )


def silhouette(sample_nk: NumberArray, labels_n: IntArray) -> float | None:
    """Mean silhouette (Rousseeuw 1987) of a sample of the cells; costs its square, so take 5,000 at most.

    Returns:
        From -1 to 1; None where it is not defined: the sample is of one cluster, or each of its cells is one.
    """
    if not 2 <= len(np.unique(labels_n)) < len(labels_n):
        return None
    return float(silhouette_score(sample_nk, labels_n))


def _calinski_harabasz(sizes_c: IntArray, means_ck: Float64Array, within: float) -> float:
    cells, clusters = int(sizes_c.sum()), len(sizes_c)
    middle_k = sizes_c @ means_ck / cells
    between = float(sizes_c @ ((means_ck - middle_k) ** 2).sum(axis=1))
    return 1.0 if within == 0 else between * (cells - clusters) / (within * (clusters - 1))


def _davies_bouldin(radii_c: Float64Array, means_ck: Float64Array) -> float:
    rows = max(_AT_ONCE // len(means_ck), 1)
    parts = [slice(start, start + rows) for start in range(0, len(means_ck), rows)]
    nearest, farthest = zip(*(_most_alike(part, radii_c, means_ck) for part in parts), strict=True)
    if np.allclose(radii_c, 0) or np.allclose(farthest, 0):
        return 0.0
    return float(np.concatenate(nearest).mean())


def _most_alike(part: slice, radii_c: Float64Array, means_ck: Float64Array) -> tuple[Float64Array, float]:
    """How near the most similar other cluster is to some of them, and the longest way from these to any."""
    apart_pc = cdist(means_ck[part], means_ck)
    farthest = float(apart_pc.max())
    apart_pc[apart_pc == 0] = np.inf
    return np.asarray(((radii_c[part, None] + radii_c) / apart_pc).max(axis=1)), farthest
