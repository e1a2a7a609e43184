"""K-means as a scikit-learn estimator, fitted in passes over blocks of rows."""

import warnings
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClusterMixin
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from tasks.core.base.errors import SettingsError
from tasks.core.numerics.block import Float64Array, IntArray, NumberArray
from tasks.core.numerics.fold import Blocks, one_blas_thread
from tasks.core.numerics.lloyd import assign, lloyd, sum_up
from tasks.core.numerics.sample import draw, take
from tasks.core.numerics.workers import threads_of

_BLOCK_ROWS = 10_000


# scikit-learn ships no types, so its classes count as Any.
class BlockKMeans(ClusterMixin, BaseEstimator):  # type: ignore[misc]
    """K-means of points that need not fit in memory: restarts on a sample, then exact Lloyd passes over all.

    The sample's best centres, of several k-means++ starts that scikit-learn's KMeans runs to their end, are the start.
    A Lloyd pass is a fold: each block gives the sums of its clusters, so the centres are those of Lloyd's algorithm
    with all points in memory, however they are cut. A pass costs `points * clusters * columns` multiplications.

    Args:
        n_clusters: clusters.
        n_init: k-means++ starts on the sample.
        sample_size: points of the sample, and one a cluster at least; drawn evenly from all, or all if they are fewer.
        max_iter: Lloyd passes after which to stop in any case.
        tol: at rest when the centres move, squared and in all, by this share of the sample's mean variance of a column.
        n_jobs: threads, as scikit-learn counts them, for points in memory; blocks bring their own.
        random_state: seed of the sample and of the starts.
        init: (n_clusters, columns) centres to start from instead; None for the sample's best.

    Attributes:
        cluster_centers_: (n_clusters, columns); where a pass left a cluster no points, the place of the point farthest
            from its centre, as in KMeans. With fewer distinct points than clusters some stay empty, where another is.
        cluster_sizes_: (n_clusters,) points nearest to each centre.
        inertia_: sum of the squared distances of all points to their centres.
        labels_: (points,) cluster of each point; for points in memory only, blocks are for `predict`.
        n_iter_: Lloyd passes.
        settled_: whether the centres came to rest.
        n_features_in_: columns.
    """

    def __init__(
        self,
        n_clusters: int = 8,
        *,
        n_init: int = 10,
        sample_size: int = 20_000,
        max_iter: int = 300,
        tol: float = 1e-4,
        n_jobs: int | None = None,
        random_state: Any = None,
        init: Float64Array | None = None,
    ) -> None:
        self.n_clusters = n_clusters
        self.n_init = n_init
        self.sample_size = sample_size
        self.max_iter = max_iter
        self.tol = tol
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.init = init

    def fit(self, X: Any, y: object = None) -> Self:  # noqa: ARG002, N803  (scikit-learn's signature)
        """Find the centres of points, (points, columns), or of Blocks of them.

        Raises:
            SettingsError: more clusters than points.
        """
        if isinstance(X, Blocks):
            return self._fit(X)
        points = validate_data(self, X, dtype=[np.float64, np.float32])
        self._fit(Blocks.cut(points, _BLOCK_ROWS, threads_of(self.n_jobs)))
        self.labels_ = assign(points, self.cluster_centers_)[0]
        return self

    def predict(self, X: Any) -> IntArray:  # noqa: N803
        """Cluster of each point, of shape (points,): the nearest centre, the first of equals."""
        check_is_fitted(self)
        return assign(validate_data(self, X, dtype=[np.float64, np.float32], reset=False), self.cluster_centers_)[0]

    def _fit(self, blocks: Blocks[NumberArray]) -> Self:
        if not 1 <= self.n_clusters <= sum(blocks.rows):
            raise SettingsError(
                f"n_clusters={self.n_clusters} must be from 1 to the points, n_samples={sum(blocks.rows)}"
            )
        random = check_random_state(self.random_state)
        with one_blas_thread():
            size = max(self.sample_size, self.n_clusters)
            rows = draw(blocks.rows, size, np.random.default_rng(random.randint(2**31)))
            sample = take(blocks, rows)
            at_rest = self.tol * float(sample.var(axis=0).mean())
            found = lloyd(blocks, self._start(sample, random), at_rest, self.max_iter)
            sums = sum_up(blocks, found.centres)
        self.cluster_centers_, self.n_iter_, self.settled_ = found.centres, found.passes, found.settled
        self.cluster_sizes_, self.inertia_ = sums.sizes, sums.inertia
        self.n_features_in_ = sample.shape[1]
        return self

    def _start(self, sample: Float64Array, random: np.random.RandomState) -> Float64Array:
        if self.init is None:
            with warnings.catch_warnings():
                # Where the sample has fewer distinct points than there are clusters, sizes of 0 say so.
                warnings.simplefilter("ignore", ConvergenceWarning)
                best = KMeans(self.n_clusters, n_init=self.n_init, random_state=random).fit(sample)
            centres: Float64Array = best.cluster_centers_
            return centres
        if self.init.shape != (self.n_clusters, sample.shape[1]):
            raise SettingsError(f"init is of shape {self.init.shape}, not {(self.n_clusters, sample.shape[1])}")
        return self.init
