"""K-means over blocks of an embedding: restarts on a sample, then exact Lloyd passes over every cell.

A Lloyd pass is a fold: each block gives the sums, sizes and inertia of its clusters, which add up to those of all
cells, so the result is that of Lloyd's algorithm (as in sklearn's KMeans) with all cells in memory.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import numpy as np
from sklearn.cluster import KMeans

from tasks.core.block import Float64Array, IntArray, NumberArray

RESTARTS = 10
SAMPLE_CELLS = 20_000
MAX_PASSES = 300
# As sklearn: settled when the centres move, in all, by this share of the mean variance of a component.
TOLERANCE = 1e-4


@dataclass(frozen=True)
class ClusterSums:
    """What one Lloyd pass needs to know of some cells; adds up over blocks.

    Attributes:
        sums: (clusters, components) sum of each cluster's cells.
        sizes: (clusters,) cells in each cluster.
        inertia: sum of squared distances of the cells to their centres.
        far: up to as many cells as there are clusters, the farthest from their centres: (m, components).
        far_distances: (m,) their squared distances, descending.
        far_labels: (m,) their clusters.
    """

    sums: Float64Array
    sizes: IntArray
    inertia: float
    far: Float64Array
    far_distances: Float64Array
    far_labels: IntArray

    @classmethod
    def of(cls, cells: NumberArray, centres: Float64Array) -> Self:
        """Assign a block's cells, of shape (n, components), and sum them up."""
        labels, distances = assign(cells, centres)
        clusters = len(centres)
        membership = np.zeros((clusters, len(cells)))
        membership[labels, np.arange(len(cells))] = 1.0
        far = np.argsort(-distances, kind="stable")[:clusters]
        points = cells.astype(np.float64)
        return cls(
            membership @ points,
            np.bincount(labels, minlength=clusters),
            float(distances.sum()),
            points[far],
            distances[far],
            labels[far],
        )

    def __add__(self, other: Self) -> Self:
        distances = np.concatenate([self.far_distances, other.far_distances])
        far = np.argsort(-distances, kind="stable")[: len(self.sizes)]
        return type(self)(
            self.sums + other.sums,
            self.sizes + other.sizes,
            self.inertia + other.inertia,
            np.concatenate([self.far, other.far])[far],
            distances[far],
            np.concatenate([self.far_labels, other.far_labels])[far],
        )

    def centres(self) -> Float64Array:
        """Mean of each cluster; an empty one takes over the cell farthest from its centre, as in sklearn."""
        sums, sizes = self.sums.copy(), self.sizes.copy()
        for empty, point, label in zip(np.flatnonzero(sizes == 0), self.far, self.far_labels, strict=False):
            sums[label] -= point
            sizes[label] -= 1
            sums[empty], sizes[empty] = point, 1
        return sums / np.maximum(sizes, 1)[:, None]


@dataclass(frozen=True)
class Centres:
    """Settled cluster centres.

    Attributes:
        centres: (clusters, components).
        passes: Lloyd passes made.
        settled: whether the centres came to rest within the passes allowed.
    """

    centres: Float64Array
    passes: int
    settled: bool


def assign(cells: NumberArray, centres: Float64Array) -> tuple[IntArray, Float64Array]:
    """Nearest centre of each cell, the first of equals, and the squared distance to it."""
    points = cells.astype(np.float64)
    scores = (centres**2).sum(axis=1) - 2.0 * (points @ centres.T)
    labels = scores.argmin(axis=1)
    nearest = points - centres[labels]
    return labels, np.einsum("nk,nk->n", nearest, nearest)


def start_centres(sample: NumberArray, clusters: int, seed: int) -> Float64Array:
    """Best of several k-means++ starts, each run to its end on a sample of the cells."""
    model = KMeans(clusters, n_init=RESTARTS, random_state=seed).fit(sample.astype(np.float64))
    centres: Float64Array = model.cluster_centers_
    return centres


def lloyd(
    lloyd_pass: Callable[[Float64Array], ClusterSums],
    start: Float64Array,
    mean_variance: float,
    on_pass: Callable[[int, float], None],
) -> Centres:
    """Move the centres to the means of their cells until they rest.

    Args:
        lloyd_pass: sums over all cells, assigned to the centres given.
        start: (clusters, components) first centres.
        mean_variance: mean over components of the cells' variance, the scale of the tolerance.
        on_pass: told the number of passes made and the inertia that the last one found.
    """
    centres = start
    for done in range(1, MAX_PASSES + 1):
        sums = lloyd_pass(centres)
        on_pass(done, sums.inertia)
        moved = sums.centres()
        shift = float(((moved - centres) ** 2).sum())
        centres = moved
        if shift <= TOLERANCE * mean_variance:
            return Centres(centres, done, settled=True)
    return Centres(centres, MAX_PASSES, settled=False)
