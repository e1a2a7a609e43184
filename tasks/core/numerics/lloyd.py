"""Lloyd's passes of K-means over blocks of points: sums over each block's clusters, which add up."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Self

import numpy as np

from tasks.core.base.progress import Progress, report
from tasks.core.numerics.block import Float64Array, IntArray, NumberArray
from tasks.core.numerics.fold import Blocks

_MOST_DISTANCES = 4_000_000
# A cell that is nearer to its centre than this share of its length is at it: the rest is rounding.
_AT_CENTRE = 1e-12


@dataclass(frozen=True)
class ClusterSums:
    """Sums over the cells of each cluster.

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
        firsts = _firsts(centres)
        return reduce(add, (cls._of(part, centres, firsts) for part in _parts(cells, centres)))

    @classmethod
    def _of(cls, cells: NumberArray, centres: Float64Array, firsts: IntArray) -> Self:
        labels, distances = _assign(cells, centres, firsts)
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
        """Mean of each cluster; an empty one takes over the cell farthest from its centre, as in sklearn.

        One that is left without cells, for they are all at their centres or it gave its last one away, is where the
        largest is.
        """
        sums, sizes = self.sums.copy(), self.sizes.copy()
        away = self.far_distances > _AT_CENTRE**2 * (self.far**2).sum(axis=1)
        for empty, point, label in zip(np.flatnonzero(sizes == 0), self.far[away], self.far_labels[away], strict=False):
            sums[label] -= point
            sizes[label] -= 1
            sums[empty], sizes[empty] = point, 1
        centres: Float64Array = sums / np.maximum(sizes, 1)[:, None]
        centres[sizes == 0] = centres[sizes.argmax()]
        return centres


def assign(cells: NumberArray, centres: Float64Array) -> tuple[IntArray, Float64Array]:
    """Nearest centre of each cell, the first of equals, and the squared distance to it."""
    firsts = _firsts(centres)
    labels, distances = zip(*(_assign(part, centres, firsts) for part in _parts(cells, centres)), strict=True)
    return np.concatenate(labels), np.concatenate(distances)


def _parts(cells: NumberArray, centres: Float64Array) -> Iterator[NumberArray]:
    """Cut a block so that a part's distances to all centres stay small: thousands of centres are many."""
    rows = max(_MOST_DISTANCES // len(centres), 1)
    for start in range(0, max(len(cells), 1), rows):
        yield cells[start : start + rows]


def _firsts(centres: Float64Array) -> IntArray:
    """Give the first of the centres at the place of each: BLAS does not score equal ones the same to the last bit."""
    _, first, place = np.unique(centres, axis=0, return_index=True, return_inverse=True)
    return first[place.ravel()]


def _assign(cells: NumberArray, centres: Float64Array, firsts: IntArray) -> tuple[IntArray, Float64Array]:
    points = cells.astype(np.float64)
    scores = (centres**2).sum(axis=1) - 2.0 * (points @ centres.T)
    labels = firsts[scores.argmin(axis=1)]
    nearest = points - centres[labels]
    return labels, np.einsum("nk,nk->n", nearest, nearest)


@dataclass(frozen=True)
class Centres:
    """Cluster centres after some passes.

    Attributes:
        centres: (clusters, components).
        passes: Lloyd passes made.
        settled: whether the centres came to rest within the passes allowed.
    """

    centres: Float64Array
    passes: int
    settled: bool


def sum_up(blocks: Blocks[NumberArray], centres: Float64Array) -> ClusterSums:
    """Assign all points to the nearest of the centres and sum up the clusters."""
    return blocks.sum(lambda points: ClusterSums.of(points, centres))


def lloyd(blocks: Blocks[NumberArray], start: Float64Array, at_rest: float, max_passes: int) -> Centres:
    """Move centres to the means of their points until, squared and in all, they move by no more than `at_rest`."""
    centres = start
    for passes in range(1, max_passes + 1):
        sums = sum_up(blocks, centres)
        report(Progress("clustering", "pass", passes, note=f"inertia {sums.inertia:.6g}"))
        moved = sums.centres()
        shift = float(((moved - centres) ** 2).sum())
        centres = moved
        if shift <= at_rest:
            return Centres(centres, passes, settled=True)
    return Centres(centres, max_passes, settled=False)
