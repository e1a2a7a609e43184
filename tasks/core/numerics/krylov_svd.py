"""Truncated SVD as a scikit-learn estimator, fitted in passes over blocks of rows."""

from time import perf_counter
from typing import Any, Protocol, Self

import numpy as np
import scipy.sparse as sp
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from tasks.core.base.errors import SettingsError
from tasks.core.base.progress import Progress, report
from tasks.core.numerics.block import Float64Array, FloatArray, NumberArray
from tasks.core.numerics.fold import Blocks, one_blas_thread
from tasks.core.numerics.gram import BlocksGram
from tasks.core.numerics.krylov import RESOLUTION, BlockKrylov, RitzPairs
from tasks.core.numerics.moments import Moments
from tasks.core.numerics.ranked import RankedMatrix
from tasks.core.numerics.workers import threads_of

# Two power steps on a twelfth of the blocks cost a sixth of a pass and save a whole one.
_WARM_UP_STEP, _WARM_UP_PASSES = 12, 2
# Cosine from which one component counts as another's like.
_RESEMBLES = 0.5


class Journal(Protocol):
    """Keeps the state of a fit, so that one that was stopped goes on."""

    def restore(self, krylov: BlockKrylov) -> None:
        """Bring a new basis to the last state that was kept, if there is one."""

    def save(self, krylov: BlockKrylov) -> None:
        """Keep the state after a pass."""


class _NoJournal:
    def restore(self, krylov: BlockKrylov) -> None: ...

    def save(self, krylov: BlockKrylov) -> None: ...


# scikit-learn ships no types, so its classes count as Any.
class KrylovSVD(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Leading singular triplets of a matrix that need not fit in memory, each with its residual.

    What scikit-learn's TruncatedSVD gives, by block Krylov passes (see the module `krylov`) over blocks of rows:
    products in float32, sums over blocks in float64 and always in the same order. A pass costs
    `2 * nonzeros * width` multiplications, memory is a few panels of `genes * width` and a basis of `genes * 240`
    (or six times the components).

    Args:
        n_components: singular triplets, at most as many as there are columns.
        tol: residual of the worst component, `||X'X v - s^2 v|| / s^2`, at which to stop.
        max_passes: passes over the data after which to stop in any case; where they are few for the components, each
            adds more columns to the basis.
        n_jobs: threads, as scikit-learn counts them, for a matrix in memory; blocks bring their own.
        random_state: seed of the first block of the basis.
        init: (any, columns) components of a matrix much like this one, to start from; None to start from nothing.

    Attributes:
        components_: (n_components, columns) right singular vectors; zeros past the rank. Signed as by TruncatedSVD,
            or as the component of `init` that each is nearest to.
        singular_values_: (n_components,) descending; zeros past the rank.
        explained_variance_: (n_components,) variance of each column of the embedding.
        explained_variance_ratio_: (n_components,) the same over the summed variance of all columns.
        residuals_: (n_components,) `||X'X v - s^2 v|| / s^2`; zeros past the rank.
        settled_: (n_components,) whether the residual is within `tol`.
        rank_: components that are data: past it, the singular values are below what float32 can tell from zero.
        n_passes_: passes over the data.
        n_features_in_: columns.
    """

    def __init__(
        self,
        n_components: int = 2,
        *,
        tol: float = 5e-4,
        max_passes: int = 50,
        n_jobs: int | None = None,
        random_state: Any = None,
        init: FloatArray | None = None,
    ) -> None:
        self.n_components = n_components
        self.tol = tol
        self.max_passes = max_passes
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.init = init

    def fit(self, X: Any, y: object = None, *, journal: Journal | None = None) -> Self:  # noqa: ARG002, N803 (scikit-learn's)
        """Find the components of a matrix, (rows, columns), or of a RankedMatrix, block by block.

        Raises:
            SettingsError: more components than columns, or an `init` with other columns.
            NumericsError: a block holds values that are not finite; names it.
        """
        matrix = X if isinstance(X, RankedMatrix) else self._rank(X)
        self.n_features_in_ = len(matrix.ranks)
        if not 1 <= self.n_components <= self.n_features_in_:
            raise SettingsError(
                f"n_components={self.n_components} must be from 1 to the columns, n_features={self.n_features_in_}"
            )
        if self.init is not None and self.init.shape[1] != self.n_features_in_:
            raise SettingsError(f"init has {self.init.shape[1]} columns, the matrix {self.n_features_in_}")
        expressed = matrix.moments.expressed
        seed = check_random_state(self.random_state).randint(2**31)
        components = min(self.n_components, len(expressed))
        krylov = BlockKrylov(len(expressed), components, np.random.default_rng(seed), self.max_passes)
        with one_blas_thread():
            pairs = self._iterate(krylov, matrix, journal or _NoJournal())
            self._learn(matrix, krylov, pairs)
        return self

    def transform(self, X: Any) -> NumberArray:  # noqa: N803
        """`X V`, of shape (rows, n_components), in the matrix's own type."""
        check_is_fitted(self)
        x_ng = validate_data(self, X, accept_sparse="csr", dtype=[np.float64, np.float32], reset=False)
        embedding: NumberArray = x_ng @ self.components_.T.astype(x_ng.dtype)
        return embedding

    def _rank(self, X: Any) -> RankedMatrix:  # noqa: N803
        x_ng = validate_data(self, X, accept_sparse="csr", dtype=[np.float64, np.float32])
        return RankedMatrix.of(sp.csr_array(x_ng), threads_of(self.n_jobs))

    def _iterate(self, krylov: BlockKrylov, matrix: RankedMatrix, journal: Journal) -> RitzPairs:
        gram = self._gram(matrix.blocks, matrix.moments)
        journal.restore(krylov)
        if krylov.passes == 0:
            self._begin(krylov, matrix)
        pairs = krylov.ritz()
        while not self._is_done(krylov, pairs):
            began = perf_counter()
            krylov.advance(gram)
            journal.save(krylov)
            pairs = krylov.ritz()
            worst = f"{pairs.residuals.max():.1e}" if len(pairs.values) == krylov.components else "not yet known"
            note = f"worst residual {worst}, {matrix.moments.cells / (perf_counter() - began):,.0f} cells/s"
            report(Progress("svd", "pass", krylov.passes, note=note))
        return pairs

    def _begin(self, krylov: BlockKrylov, matrix: RankedMatrix) -> None:
        if self.init is not None:
            krylov.start_near(_by_rank(self.init, matrix)[matrix.moments.expressed])
            return
        sample = matrix.blocks.every(_WARM_UP_STEP)
        if not krylov.is_complete and len(sample.sources) < len(matrix.blocks.sources):
            for _ in range(_WARM_UP_PASSES):
                krylov.turn(self._gram(sample, matrix.moments))

    def _is_done(self, krylov: BlockKrylov, pairs: RitzPairs) -> bool:
        if krylov.is_complete or krylov.passes >= self.max_passes:
            return True
        return len(pairs.values) == krylov.components and bool(pairs.residuals.max() <= self.tol)

    def _learn(self, matrix: RankedMatrix, krylov: BlockKrylov, pairs: RitzPairs) -> None:
        self.rank_ = int((pairs.values > self._rounding(matrix.moments, pairs.values)).sum())
        self.n_passes_ = krylov.passes
        self.singular_values_ = self._padded(pairs.values)
        self.residuals_ = self._padded(pairs.residuals)
        self.settled_ = self.residuals_ <= self.tol
        # What is past the rank is rounding: no component is better than a made-up one.
        v_gk = np.zeros((self.n_features_in_, self.n_components))
        v_gk[matrix.moments.expressed, : self.rank_] = krylov.vectors(pairs.coordinates[:, : self.rank_])
        v_gk = _with_fixed_signs(v_gk)
        if self.init is not None:
            v_gk = _with_signs_of(v_gk, _by_rank(self.init, matrix))
        self._learn_variances(matrix, v_gk)
        self.components_ = v_gk[matrix.ranks].T

    def _gram(self, blocks: Blocks[Any], moments: Moments) -> BlocksGram:
        return BlocksGram(blocks, moments)

    def _rounding(self, moments: Moments, values: Float64Array) -> float:  # noqa: ARG002
        """Singular values up to this may be nothing but rounding."""
        return RESOLUTION * float(values.max(initial=0.0))

    def _learn_variances(self, matrix: RankedMatrix, v_gk: Float64Array) -> None:
        moments = matrix.moments
        variances = self.singular_values_**2 / moments.cells - (moments.means @ v_gk) ** 2
        self.explained_variance_ = np.maximum(variances, 0.0)
        self.explained_variance_ratio_ = self.explained_variance_ / (moments.variances.sum() or 1.0)

    def _padded(self, of_rank: Float64Array) -> Float64Array:
        padded = np.zeros(self.n_components)
        padded[: self.rank_] = of_rank[: self.rank_]
        return padded

    @property
    def _n_features_out(self) -> int:
        return self.n_components

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags


def _with_fixed_signs(v_gk: Float64Array) -> Float64Array:
    # As TruncatedSVD: the loading largest in size is positive.
    return v_gk * np.where(-v_gk.min(axis=0) > v_gk.max(axis=0), -1.0, 1.0)


def _with_signs_of(v_gk: Float64Array, like_gk: FloatArray) -> Float64Array:
    # Where a component resembles none, its own sign stays.
    cosines = like_gk.T @ v_gk
    nearest = np.take_along_axis(cosines, np.abs(cosines).argmax(axis=0)[None], axis=0)[0]
    return v_gk * np.where(nearest <= -_RESEMBLES, -1.0, 1.0)


def _by_rank(v_kg: FloatArray, matrix: RankedMatrix) -> FloatArray:
    """(columns, k) components in the order of the ranked columns."""
    by_rank = np.empty_like(v_kg.T)
    by_rank[matrix.ranks] = v_kg.T
    return by_rank
