"""Genes that mark clusters: the cells of each cluster against all others, from sums over the cells.

Scores, fold changes and p-values are those of scanpy's `rank_genes_groups(method="t-test")`. The order is another: that
of the effect, Cohen's d. The clusters were found in the same values that are tested here, so the p-values are far too
small, more so the more cells there are; how far apart the values are does not grow with the cells.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np

from tasks.core.numerics.block import Block, Float64Array, IntArray
from tasks.core.numerics.fold import Blocks
from tasks.core.numerics.moments import Moments
from tasks.core.numerics.scaling import keep_genes

# What scanpy adds to both means, lest a gene that one side lacks have an infinite fold change.
_LEAST_MEAN = 1e-9
_LEAST_CELLS = 2
# Genes times clusters of one pass, of 24 bytes each: 16 clusters of Tahoe's genes, as much as a panel of the SVD. More
# clusters take more passes.
_MOST_SUMS = 2**20


@dataclass(frozen=True)
class GeneSums:
    """Sums of each gene over the cells of each group, mergeable by addition.

    Attributes:
        cells_c: cells of each group.
        sums_cg: sum of the values.
        squares_cg: sum of their squares.
        expressing_cg: cells with another value than zero.
    """

    cells_c: IntArray
    sums_cg: Float64Array
    squares_cg: Float64Array
    expressing_cg: IntArray

    @classmethod
    def of(cls, block: Block, groups_n: IntArray, groups: int, genes: int) -> Self:
        """Sum up a block of normalized values by group."""
        from tasks.core.numerics.kernels import tally  # noqa: PLC0415

        wide = Block(block.offsets, block.genes, block.values.astype(np.float64))
        return cls(np.bincount(groups_n, minlength=groups), *tally(wide, groups_n, groups, genes))

    def __iadd__(self, other: Self) -> Self:
        for mine, of_other in zip(vars(self).values(), vars(other).values(), strict=True):
            np.add(mine, of_other, out=mine)
        return self

    def __iter__(self) -> Iterator[Moments]:
        """Give each group's sums."""
        sums = zip(self.sums_cg, self.squares_cg, self.expressing_cg, strict=True)
        return (Moments(int(cells), *of_group) for cells, of_group in zip(self.cells_c, sums, strict=True))

    @property
    def total(self) -> Moments:
        """Sums over all groups."""
        sums = (of.sum(axis=0) for of in (self.sums_cg, self.squares_cg, self.expressing_cg))
        return Moments(int(self.cells_c.sum()), *sums)


@dataclass(frozen=True)
class Markers:
    """The genes of largest effect in a cluster, in descending order; names as scanpy has them, but for `cohens_d`.

    Attributes:
        genes: columns of the matrix.
        cohens_d: difference of the means over the root of the mean of the two variances (Cohen 1988).
        scores: Welch's t.
        logfoldchanges: log2 of the ratio of the means, taken back from log1p.
        pvals: of the t-test, two-sided.
        pvals_adj: the same, adjusted for all genes (Benjamini and Hochberg 1995).
        pct_nz_group: share of the cluster's cells that express the gene.
        pct_nz_reference: the same of all other cells.
    """

    genes: IntArray
    cohens_d: Float64Array
    scores: Float64Array
    logfoldchanges: Float64Array
    pvals: Float64Array
    pvals_adj: Float64Array
    pct_nz_group: Float64Array
    pct_nz_reference: Float64Array


def rank_genes(
    blocks: Blocks[Block], labels: Blocks[IntArray], clusters: int, genes: int, most: int
) -> list[Markers | None]:
    """Rank each cluster's genes against all other cells, whose sums are those of all cells less the cluster's.

    A pass over the blocks sums up so many clusters as take some ten megabytes, and is done for as many as there are.
    Of equal effects the higher score comes first, and of equal scores the first gene.

    Args:
        blocks: normalized values, log1p.
        labels: of each block, the number of each cell's cluster.
        clusters: how many there are.
        genes: columns of the matrix.
        most: genes to give of each cluster.

    Returns:
        Of each cluster; None where fewer than two cells are in it, or outside of it, for a t-test needs two.
    """
    found: list[Markers | None] = []
    whole: Moments | None = None
    step = max(_MOST_SUMS // genes, 1)
    for start in range(0, clusters, step):
        part = range(start, min(start + step, clusters))
        whole, of_part = _rank_part(blocks, labels, part, genes, most, whole)
        found += of_part
    return found


def sum_genes(blocks: Blocks[Block], labels: Blocks[IntArray], clusters: int, columns: IntArray) -> GeneSums:
    """Sum up some genes by cluster in one pass: those that have a column in the sums, of (genes,), other than -1."""
    kept = int(columns.max(initial=-1)) + 1
    return blocks.sum(lambda block, labels_n: GeneSums.of(keep_genes(block, columns), labels_n, clusters, kept), labels)


def _rank_part(
    blocks: Blocks[Block], labels: Blocks[IntArray], part: range, genes: int, most: int, whole: Moments | None
) -> tuple[Moments, list[Markers | None]]:
    """Rank the genes of some clusters in one pass, which sums up all cells too if it is the first."""

    def sums(block: Block, labels_n: IntArray) -> GeneSums:
        is_other = (labels_n < part.start) | (labels_n >= part.stop)
        groups_n = np.where(is_other, len(part), labels_n.astype(np.int64) - part.start)
        if whole is not None and is_other.any():
            rows = np.flatnonzero(~is_other)
            block, groups_n = block.take(rows), groups_n[rows]
        return GeneSums.of(block, groups_n, len(part) + 1, genes)

    found = blocks.sum(sums, labels)
    of_all = whole or found.total
    return of_all, [_rank(group, of_all - group, most) for _, group in zip(part, found, strict=False)]


def _rank(group: Moments, rest: Moments, most: int) -> Markers | None:
    if min(group.cells, rest.cells) < _LEAST_CELLS:
        return None
    from scipy.stats import false_discovery_control  # noqa: PLC0415  (slow, and not all need it)

    effects, (scores, pvals) = _cohens_d(group, rest), _welch(group, rest)
    # A copy, lest each cluster's few genes keep the order of all of them.
    top = np.lexsort((-scores, -effects))[:most].copy()
    means, of_rest = (np.expm1(cells.means[top]) + _LEAST_MEAN for cells in (group, rest))
    return Markers(
        genes=top,
        cohens_d=effects[top],
        scores=scores[top],
        logfoldchanges=np.log2(means / of_rest),
        pvals=pvals[top],
        pvals_adj=false_discovery_control(pvals)[top],
        pct_nz_group=group.shares[top],
        pct_nz_reference=rest.shares[top],
    )


def _cohens_d(group: Moments, rest: Moments) -> Float64Array:
    """Give the effect on each gene; 0 where the means are equal and nothing varies."""
    with np.errstate(divide="ignore", invalid="ignore"):
        effects = (group.means - rest.means) / np.sqrt((group.sample_variances + rest.sample_variances) / 2)
    return np.nan_to_num(effects, nan=0.0, posinf=np.inf, neginf=-np.inf)


def _welch(group: Moments, rest: Moments) -> tuple[Float64Array, Float64Array]:
    """T and p of each gene; 0 and 1 where the means are equal and nothing varies, as in scanpy."""
    from scipy.stats import ttest_ind_from_stats  # noqa: PLC0415

    # A gene that does not vary on either side divides by zero.
    with np.errstate(divide="ignore", invalid="ignore"):
        scores, pvals = ttest_ind_from_stats(
            group.means,
            np.sqrt(group.sample_variances),
            group.cells,
            rest.means,
            np.sqrt(rest.sample_variances),
            rest.cells,
            equal_var=False,
        )
    return np.nan_to_num(scores, nan=0.0, posinf=np.inf, neginf=-np.inf), np.where(np.isnan(pvals), 1.0, pvals)
