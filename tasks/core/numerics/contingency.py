"""Two labellings of the same cells, counted against each other, and how well they agree."""

from dataclasses import dataclass
from typing import Self

import numpy as np
import scipy.sparse as sp

from tasks.core.numerics.block import Float64Array, IntArray
from tasks.core.numerics.fold import Blocks


@dataclass(frozen=True)
class Contingency:
    """Cells of each class in each cluster, mergeable by addition.

    Attributes:
        cells: (classes, clusters).
    """

    cells: IntArray

    @classmethod
    def of(cls, classes_n: IntArray, clusters_n: IntArray, classes: int, clusters: int) -> Self:
        """Count the cells of a block, by the numbers of their classes and clusters."""
        pairs = classes_n.astype(np.int64) * clusters + clusters_n.astype(np.int64)
        return cls(np.bincount(pairs, minlength=classes * clusters).reshape(classes, clusters))

    def __add__(self, other: Self) -> Self:
        return type(self)(self.cells + other.cells)

    @property
    def adjusted_rand_index(self) -> float:
        """Agreement of the pairs of cells that are together (Hubert and Arabie 1985): 1 for equal, 0 by chance."""
        cells = int(self.cells.sum())
        together = _pairs(self.cells)
        rows, columns = _pairs(self.cells.sum(axis=1)), _pairs(self.cells.sum(axis=0))
        expected = rows * columns / max(cells * (cells - 1) / 2, 1)
        most = (rows + columns) / 2
        return 1.0 if most == expected else float((together - expected) / (most - expected))

    @property
    def normalized_mutual_information(self) -> float:
        """Mutual information over the mean of the two entropies, as scikit-learn's; 1 where neither parts the cells."""
        of_pairs, of_classes, of_clusters = (
            _entropy(counts) for counts in (self.cells.ravel(), self.cells.sum(axis=1), self.cells.sum(axis=0))
        )
        mean = (of_classes + of_clusters) / 2
        return 1.0 if mean == 0 else max(of_classes + of_clusters - of_pairs, 0.0) / mean

    @property
    def recalls(self) -> Float64Array:
        """(classes,) share of each class in its cluster, where each class is given a cluster of its own.

        Of all ways to pair them the one with the most cells (assignment of Kuhn 1955); 0 for a class that is left
        without a cluster, and for one without cells.
        """
        from scipy.optimize import linear_sum_assignment  # noqa: PLC0415  (slow, and not all need it)

        classes, clusters = linear_sum_assignment(self.cells, maximize=True)
        recalls = np.zeros(len(self.cells))
        recalls[classes] = self.cells[classes, clusters]
        return np.asarray(recalls / np.maximum(self.cells.sum(axis=1), 1))


def tabulate(
    classes: Blocks[IntArray], clusters: Blocks[IntArray], number_of_classes: int, number_of_clusters: int
) -> Contingency:
    """Count cells by their class and their cluster, in a pass over the numbers of both.

    A block counts the pairs that it has: thousands of classes and clusters make many more.
    """
    shape = number_of_classes, number_of_clusters

    def pairs(classes_n: IntArray, clusters_n: IntArray) -> sp.csr_array:
        return sp.coo_array((np.ones(len(classes_n), np.int64), (classes_n, clusters_n)), shape=shape).tocsr()

    return Contingency(classes.sum(pairs, clusters).toarray())


def _pairs(counts: IntArray) -> float:
    wide = counts.astype(np.float64)
    return float((wide * (wide - 1) / 2).sum())


def _entropy(counts: IntArray) -> float:
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum())
