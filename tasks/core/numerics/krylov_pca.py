"""Principal components as a scikit-learn estimator: the truncated SVD of the centred matrix, which is never made."""

from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from tasks.core.numerics.block import Float64Array, NumberArray
from tasks.core.numerics.fold import Blocks
from tasks.core.numerics.gram import CentredGram
from tasks.core.numerics.krylov_svd import KrylovSVD
from tasks.core.numerics.moments import Moments
from tasks.core.numerics.ranked import RankedMatrix

# A singular value this small beside the norm of the matrix, mean and all, may be nothing but rounding.
_OF_NORM = 10.0 * float(np.finfo(np.float32).eps)


class KrylovPCA(KrylovSVD):
    """Principal components of a sparse matrix that need not fit in memory, each with its residual.

    What scikit-learn's PCA and scanpy's `pp.pca` give, found as by KrylovSVD, with its parameters and at its cost: each
    product is centred on the way, so the matrix stays sparse. Of a mean far larger than the deviations, float32 keeps
    the deviations to fewer digits.

    Attributes:
        components_: (n_components, columns) principal axes; zeros past the rank. Signed as by PCA, or as the component
            of `init` that each is nearest to.
        mean_: (columns,) mean of each column.
        singular_values_: (n_components,) of the centred matrix, descending; zeros past the rank.
        explained_variance_: (n_components,) variance of each column of the embedding, over n - 1.
        explained_variance_ratio_: (n_components,) the same over the summed variance of all columns.
        residuals_: (n_components,) `||X'X v - s^2 v|| / s^2` of the centred matrix; zeros past the rank.
        settled_, rank_, n_passes_, n_features_in_: as of KrylovSVD.
    """

    def transform(self, X: Any) -> NumberArray:  # noqa: N803
        """`(X - mean) V`, of shape (rows, n_components), in the matrix's own type."""
        check_is_fitted(self)
        embedding = super().transform(X)
        embedding -= (self.mean_ @ self.components_.T).astype(embedding.dtype)
        return embedding

    def _gram(self, blocks: Blocks[Any], moments: Moments) -> CentredGram:
        return CentredGram(blocks, moments)

    def _rounding(self, moments: Moments, values: Float64Array) -> float:
        # What float32 makes of the mean, too, looks like a component.
        return max(super()._rounding(moments, values), _OF_NORM * float(np.sqrt(moments.squares.sum())))

    def _learn_variances(self, matrix: RankedMatrix, v_gk: Float64Array) -> None:  # noqa: ARG002
        moments = matrix.moments
        others = max(moments.cells - 1, 1)
        self.mean_ = moments.means[matrix.ranks]
        self.explained_variance_ = self.singular_values_**2 / others
        total = moments.variances.sum() * (moments.cells / others)
        self.explained_variance_ratio_ = self.explained_variance_ / (total or 1.0)
