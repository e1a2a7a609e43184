"""Genes that mark clusters: Welch's t-test of each cluster's cells against all others, from sums over the cells.

Scores, fold changes and p-values are those of scanpy's `rank_genes_groups(method="t-test")`.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import numpy as np
import scipy.sparse as sp

from tasks.core.numerics.block import Block, Float64Array, IntArray
from tasks.core.numerics.fold import Blocks

# What scanpy adds to both means, lest a gene that one side lacks have an infinite fold change.
_LEAST_MEAN = 1e-9
_LEAST_CELLS = 2


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
    expressing_cg: Float64Array

    @classmethod
    def of(cls, block: Block, labels_n: IntArray, clusters: int, genes: int) -> Self:
        """Sum up a block of normalized values by cluster."""
        # One column a cell of a row for each gene of each cluster: several times faster than a product of two sparse
        # matrices, and threads do not wait for each other in it.
        rows = block.genes + np.repeat(labels_n.astype(np.int64) * genes, np.diff(block.offsets))
        values, ones = block.values.astype(np.float64), np.ones(block.cells)
        sums, squares, expressing = (
            sp.csc_array((of_values, rows, block.offsets), shape=(clusters * genes, block.cells)) @ ones
            for of_values in (values, values * values, (values != 0).astype(np.float64))
        )
        shape = clusters, genes
        return cls(
            np.bincount(labels_n, minlength=clusters),
            sums.reshape(shape),
            squares.reshape(shape),
            expressing.reshape(shape),
        )

    def __add__(self, other: Self) -> Self:
        return type(self)(
            self.cells_c + other.cells_c,
            self.sums_cg + other.sums_cg,
            self.squares_cg + other.squares_cg,
            self.expressing_cg + other.expressing_cg,
        )

    def total(self, clusters: IntArray) -> "Group":
        """Sum of some clusters."""
        return Group(
            int(self.cells_c[clusters].sum()),
            self.sums_cg[clusters].sum(axis=0),
            self.squares_cg[clusters].sum(axis=0),
            self.expressing_cg[clusters].sum(axis=0),
        )


@dataclass(frozen=True)
class Group:
    """Sums of each gene over the cells of one group."""

    cells: int
    sums_g: Float64Array
    squares_g: Float64Array
    expressing_g: Float64Array

    @property
    def means_g(self) -> Float64Array:
        """Mean of each gene."""
        return self.sums_g / self.cells

    @property
    def deviations_g(self) -> Float64Array:
        """Standard deviation of each gene, of two cells or more."""
        squares_g = np.maximum(self.squares_g - self.sums_g**2 / self.cells, 0.0)
        return np.asarray(np.sqrt(squares_g / (self.cells - 1)))

    @property
    def shares_g(self) -> Float64Array:
        """Share of the cells that express each gene."""
        return self.expressing_g / self.cells


@dataclass(frozen=True)
class Markers:
    """The genes of highest score in a cluster, in descending order; names as scanpy has them.

    Attributes:
        genes: columns of the matrix.
        scores: Welch's t.
        logfoldchanges: log2 of the ratio of the means, taken back from log1p.
        pvals: of the t-test, two-sided.
        pvals_adj: the same, adjusted for all genes (Benjamini and Hochberg 1995).
        pct_nz_group: share of the cluster's cells that express the gene.
        pct_nz_reference: the same of all other cells.
    """

    genes: IntArray
    scores: Float64Array
    logfoldchanges: Float64Array
    pvals: Float64Array
    pvals_adj: Float64Array
    pct_nz_group: Float64Array
    pct_nz_reference: Float64Array


def sum_genes(blocks: Blocks[Block], labels: Iterable[IntArray], clusters: int, genes: int) -> GeneSums:
    """Sum up all blocks in one pass; each holds three (clusters, genes) matrices while it waits to be added.

    Args:
        blocks: normalized values, log1p.
        labels: for each block, the number of each cell's cluster.
        clusters: how many there are.
        genes: columns of the matrix.
    """
    return blocks.sum(lambda block, labels_n: GeneSums.of(block, labels_n, clusters, genes), labels)


def rank_genes(sums: GeneSums, most: int) -> list[Markers | None]:
    """Rank each cluster's genes against all other cells; equal scores are in the order of the genes.

    Args:
        sums: over all cells.
        most: genes to give of each cluster.

    Returns:
        Of each cluster; None where fewer than two cells are in it, or outside of it, for a t-test needs two.
    """
    clusters = np.arange(len(sums.cells_c))
    return [_rank(sums.total(clusters[[at]]), sums.total(np.delete(clusters, at)), most) for at in clusters]


def _rank(group: Group, rest: Group, most: int) -> Markers | None:
    if min(group.cells, rest.cells) < _LEAST_CELLS:
        return None
    from scipy.stats import false_discovery_control  # noqa: PLC0415  (slow, and not all need it)

    scores, pvals = _welch(group, rest)
    top = np.argsort(-scores, kind="stable")[:most]
    means, of_rest = (np.expm1(cells.means_g[top]) + _LEAST_MEAN for cells in (group, rest))
    return Markers(
        genes=top,
        scores=scores[top],
        logfoldchanges=np.log2(means / of_rest),
        pvals=pvals[top],
        pvals_adj=false_discovery_control(pvals)[top],
        pct_nz_group=group.shares_g[top],
        pct_nz_reference=rest.shares_g[top],
    )


def _welch(group: Group, rest: Group) -> tuple[Float64Array, Float64Array]:
    """T and p of each gene; 0 and 1 where the means are equal and nothing varies, as in scanpy."""
    from scipy.stats import ttest_ind_from_stats  # noqa: PLC0415

    # A gene that does not vary on either side divides by zero.
    with np.errstate(divide="ignore", invalid="ignore"):
        scores, pvals = ttest_ind_from_stats(
            group.means_g,
            group.deviations_g,
            group.cells,
            rest.means_g,
            rest.deviations_g,
            rest.cells,
            equal_var=False,
        )
    return np.nan_to_num(scores, nan=0.0, posinf=np.inf, neginf=-np.inf), np.where(np.isnan(pvals), 1.0, pvals)
