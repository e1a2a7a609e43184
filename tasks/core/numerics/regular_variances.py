"""Highly variable genes as `scanpy.pp.highly_variable_genes` defines them, flavour `seurat_v3`, from moments alone.

After Stuart et al. (2019), "Comprehensive integration of single-cell data".
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np

from tasks.core.base.errors import SettingsError
from tasks.core.numerics.block import Float64Array
from tasks.core.numerics.group_moments import GroupMoments
from tasks.core.numerics.moments import Moments
from tasks.core.numerics.variable_genes import VariableGenes, check_cells, check_genes, first_of

_SPAN, _DEGREE = 0.3, 2
# So that a span has the three that a parabola takes.
_LEAST_POINTS = 10


@dataclass(frozen=True)
class RegularVariances:
    """Variances of genes beside those expected, batch by batch; without a batch key all cells are one batch.

    It takes two folds over the counts. The variance expected of a gene comes from a loess of log variance on log mean;
    counts are clipped at the mean plus `sqrt(n)` of the deviations expected, before the gene's own variance is taken in
    terms of that.

    Attributes:
        counts: moments of the raw counts.
        deviations: for each batch, (genes,) the standard deviation expected of each gene; 1 where it does not vary.
    """

    counts: GroupMoments
    deviations: Mapping[str, Float64Array]

    @classmethod
    def fit(cls, counts: GroupMoments) -> Self:
        """Fit the trends.

        Raises:
            SettingsError: a batch has one cell, or so few genes that no trend can be fitted.
        """
        return cls(counts, {name: _expected_deviations(name, batch) for name, batch in sorted(counts.batches.items())})

    @property
    def bounds(self) -> dict[str, Float64Array]:
        """For each batch, (genes,) what counts are clipped to: the second fold is `GroupMoments.above` of these."""
        return {
            name: self.deviations[name] * np.sqrt(batch.cells) + batch.means
            for name, batch in self.counts.batches.items()
        }

    def choose(self, above: GroupMoments, n_top_genes: int) -> VariableGenes:
        """Choose by normalized variance, the genes with the lowest median rank first.

        The rank in a batch counts where it is below `n_top_genes`. Ties go to the gene that is so in more batches, then
        to the lower index. The moments are those of the counts above `bounds`.

        Raises:
            SettingsError: fewer genes vary than are to be chosen.
        """
        names = sorted(self.counts.batches)
        whole = self.counts.whole
        check_genes(whole.sample_variances > 0, n_top_genes)
        normalized = np.array([self._normalized(name, above.batches[name]) for name in names])
        ranks = np.argsort(np.argsort(-normalized, axis=1, kind="stable"), axis=1, kind="stable").astype(np.float64)
        high = ranks < n_top_genes
        number = high.sum(axis=0)
        median = np.full(len(number), np.nan)
        median[number > 0] = np.nanmedian(np.where(high, ranks, np.nan)[:, number > 0], axis=0)
        order = np.lexsort((-number, np.nan_to_num(median, nan=np.inf)))
        statistics = {
            "means": whole.means,
            "variances": whole.sample_variances,
            "variances_norm": normalized.mean(axis=0),
            "highly_variable_rank": median,
        }
        by_batch = {"highly_variable_nbatches": number} if len(names) > 1 else {}
        return VariableGenes(first_of(order, n_top_genes), statistics | by_batch)

    def _normalized(self, name: str, above: Moments) -> Float64Array:
        """(genes,) variance of the clipped counts around the mean, over that expected."""
        batch, deviations, bounds = self.counts.batches[name], self.deviations[name], self.bounds[name]
        # Whole numbers, whose sums are exact whatever their order.
        sums = (batch.sums - above.sums) + above.expressing * bounds
        squares = (batch.squares - above.squares) + above.expressing * bounds**2
        scatter = batch.cells * batch.means**2 + squares - 2 * sums * batch.means
        return np.asarray(scatter / ((batch.cells - 1) * deviations**2))


def _expected_deviations(name: str, batch: Moments) -> Float64Array:
    check_cells(name, batch)
    varies = batch.sample_variances > 0
    try:
        logarithms = _trend(np.log10(batch.means[varies]), np.log10(batch.sample_variances[varies]))
    except ValueError as error:
        raise SettingsError(
            f"the counts of batch {name!r}, {batch.cells} cells in which {int(varies.sum())} genes vary, are too few"
            " for a loess of variance on mean; choose genes by flavour seurat, or leave small batches out"
        ) from error
    deviations = np.ones(len(varies))
    deviations[varies] = np.sqrt(10**logarithms)
    return deviations


def _trend(x: Float64Array, y: Float64Array) -> Float64Array:
    """Fit a loess of y on x and give its values.

    Raises:
        ValueError: there are too few points, or too many at one place.
    """
    from skmisc.loess import loess  # noqa: PLC0415  (what chooses no genes should not wait for it)

    # Of a handful of points the library's process may end in a segmentation fault.
    if len(x) < _LEAST_POINTS:
        raise ValueError(f"{len(x)} points")
    trend = loess(x, y, span=_SPAN, degree=_DEGREE)
    trend.fit()
    return np.asarray(trend.outputs.fitted_values, np.float64)
