"""Highly variable genes as `scanpy.pp.highly_variable_genes` defines them, flavour `seurat`, from moments alone.

After Satija et al. (2015), "Spatial reconstruction of single-cell gene expression data".
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
import polars as pl

from tasks.core.base.errors import SettingsError
from tasks.core.numerics.block import Float64Array, IntArray, NumberArray
from tasks.core.numerics.group_moments import GroupMoments
from tasks.core.numerics.moments import Moments

BoolArray = npt.NDArray[np.bool_]

_BINS = 20


@dataclass(frozen=True)
class VariableGenes:
    """The genes chosen, and why.

    Attributes:
        chosen: (genes,) whether each is.
        statistics: (genes,) columns, named as scanpy names them in `var`.
    """

    chosen: BoolArray
    statistics: Mapping[str, NumberArray]


def check_batches(moments: GroupMoments) -> None:
    """Refuse batches that are none.

    Raises:
        SettingsError: there is one batch, or one of them has one cell.
    """
    if len(moments.batches) == 1:
        raise SettingsError(f"all cells are of one batch, {next(iter(moments.batches))!r}; leave the batch key out")
    for name, batch in sorted(moments.batches.items()):
        check_cells(name, batch)


def check_cells(name: str, batch: Moments) -> None:
    """Refuse a batch of one cell.

    Raises:
        SettingsError: it is one.
    """
    if batch.cells < 2:
        raise SettingsError(f"batch {name!r} has a single cell, whose genes have no variance; leave it out")


def check_genes(varies: BoolArray, n_top_genes: int) -> None:
    """Refuse to choose more genes than vary.

    Raises:
        SettingsError: fewer vary, or none are to be chosen.
    """
    if not 1 <= n_top_genes <= varies.sum():
        raise SettingsError(f"{n_top_genes=} must be from 1 to the genes whose values vary, {int(varies.sum())}")


def first_of(order: IntArray, number: int) -> BoolArray:
    """(genes,) whether each gene is among the first of an order."""
    chosen = np.zeros(len(order), bool)
    chosen[order[:number]] = True
    return chosen


def choose_seurat(cpm: Moments, n_top_genes: int) -> VariableGenes:
    """Choose by normalized dispersion: flavour `seurat` without a batch key.

    A gene's dispersion, the logarithm of variance over mean, is standardized among the genes of a like mean, in 20
    bins. Genes that tie with the last chosen are chosen too. The moments are those of the counts per million.

    Raises:
        SettingsError: fewer genes vary than are to be chosen.
    """
    check_genes(cpm.sample_variances > 0, n_top_genes)
    dispersions = _Dispersions.of(cpm.means, cpm.sample_variances)
    return VariableGenes(dispersions.highest(n_top_genes), dispersions.statistics)


def choose_seurat_by_batch(cpm: GroupMoments, n_top_genes: int) -> VariableGenes:
    """Choose by normalized dispersion within each batch: flavour `seurat` with a batch key.

    First come the genes that are among the highest in most batches, then those with the greatest mean normalized
    dispersion, then those with the lower index. A batch counts as 0 for a gene that it does not express. The moments
    are those of the counts per million.

    Raises:
        SettingsError: fewer genes vary than are to be chosen, there is one batch, or one of them has one cell.
    """
    check_batches(cpm)
    batches = [cpm.batches[name] for name in sorted(cpm.batches)]
    check_genes(np.any([batch.sample_variances > 0 for batch in batches], axis=0), n_top_genes)
    of_each: list[Mapping[str, NumberArray]] = []
    number = np.zeros(len(batches[0].sums), np.int64)
    for batch in batches:
        expressed = batch.expressing > 0
        dispersions = _Dispersions.of(batch.means[expressed], batch.sample_variances[expressed])
        number[expressed] += dispersions.highest(n_top_genes)
        of_each.append({name: _spread(column, expressed) for name, column in dispersions.statistics.items()})
    statistics = {name: _mean_of_known([columns[name] for columns in of_each]) for name in of_each[0]}
    order = np.lexsort((-np.nan_to_num(_known_digits(statistics["dispersions_norm"]), nan=-np.inf), -number))
    return VariableGenes(first_of(order, n_top_genes), statistics | {"highly_variable_nbatches": number})


@dataclass(frozen=True)
class _Dispersions:
    """Dispersions of genes and where each stands among those of a like mean; NaN where it has none."""

    statistics: Mapping[str, NumberArray]

    @classmethod
    def of(cls, means: Float64Array, variances: Float64Array) -> Self:
        means = np.where(means == 0, 1e-12, means)
        dispersions = np.full(len(means), np.nan)
        np.log(variances / means, out=dispersions, where=variances > 0)
        log_means = np.log1p(means)
        normalized = _standardized(dispersions, _cut(log_means, _BINS))
        return cls({"means": log_means, "dispersions": dispersions, "dispersions_norm": normalized})

    def highest(self, number: int) -> BoolArray:
        """(genes,) those with the highest normalized dispersions, and all that tie with the last of them."""
        normalized = _known_digits(self.statistics["dispersions_norm"])
        known = np.sort(normalized[~np.isnan(normalized)])
        if len(known) == 0:
            return np.zeros(len(normalized), bool)
        return np.asarray(normalized >= known[-min(number, len(known))])


def _known_digits(normalized: NumberArray) -> Float64Array:
    # The two genes of a bin are equally far from its mean, and tie with those of other such bins. What tells them apart
    # is the rounding of sums, which depends on the blocks that they were taken over.
    return np.round(normalized, 9)


def _cut(values: Float64Array, bins: int) -> IntArray:
    """Bin of each value, from 1: of equal widths and closed above, the lowest value in the first."""
    if len(values) == 0 or (values == values[0]).all():
        # A bin wide enough for all; which one it is does not matter.
        return np.ones(len(values), np.int64)
    edges = np.linspace(values.min(), values.max(), bins + 1)
    return np.maximum(np.searchsorted(edges, values, side="left"), 1)


def _standardized(values: Float64Array, bins: IntArray) -> Float64Array:
    """Standardize values within their bins; NaN is left out, and one that is alone in its bin becomes 1."""
    value = pl.col("value")
    alone = value.count() == 1
    mean = pl.when(alone).then(0.0).otherwise(value.mean())
    deviation = pl.when(alone).then(value.mean()).otherwise(value.std())
    table = pl.DataFrame({"value": values, "bin": bins}).with_columns(value.fill_nan(None))
    return table.select(((value - mean) / deviation).over("bin").fill_null(np.nan))["value"].to_numpy()


def _spread(of_expressed: NumberArray, expressed: BoolArray) -> Float64Array:
    spread = np.zeros(len(expressed))
    spread[expressed] = of_expressed
    return spread


def _mean_of_known(columns: list[NumberArray]) -> Float64Array:
    """Mean of the columns without NaN; NaN where there is nothing else."""
    known = np.count_nonzero(~np.isnan(columns), axis=0)
    means = np.full(len(known), np.nan)
    np.divide(np.nansum(columns, axis=0), known, out=means, where=known > 0)
    return means
