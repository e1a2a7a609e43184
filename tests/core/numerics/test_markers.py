import warnings
from functools import cache
from typing import Any

import numpy as np
import pytest
import scanpy as sc
import scipy.sparse as sp

from tasks.core.numerics.block import Block, IntArray
from tasks.core.numerics.fold import Blocks
from tasks.core.numerics.markers import GeneSums, Markers, rank_genes, sum_genes
from tests.core.numerics.mixology import normalized

COLUMNS = ("scores", "logfoldchanges", "pvals", "pvals_adj", "pct_nz_group", "pct_nz_reference")


def summed(matrix: Any, labels: IntArray, clusters: int, size: int = 300, workers: int = 1) -> GeneSums:
    whole = Block(matrix.indptr, matrix.indices, matrix.data)
    starts = range(0, whole.cells, size)
    blocks = [whole.cut(start, min(start + size, whole.cells)) for start in starts]
    names = [f"block {start}" for start in starts]
    parts = [labels[start : start + size] for start in starts]
    sources = Blocks(blocks, names, [block.cells for block in blocks], lambda block: block, workers)
    return sum_genes(sources, parts, clusters, matrix.shape[1])


@cache
def scanpys() -> Any:
    """Markers of the five lines, of all genes, by gene."""
    adata = normalized().copy()
    # In single precision its p-values of 1e-200 are off by some 1e-4.
    adata.X = adata.X.astype(np.float64)
    with warnings.catch_warnings(action="ignore"):
        sc.tl.rank_genes_groups(adata, "cell_line_id", method="t-test", pts=True)
        return sc.get.rank_genes_groups_df(adata, None)


@pytest.mark.parametrize("line", range(5))
def test_genes_are_scanpy_s(line: int) -> None:
    adata = normalized()
    codes = adata.obs["cell_line_id"].cat
    ours = rank_genes(summed(adata.X, codes.codes.to_numpy().astype(int), 5), 200)[line]
    assert ours is not None
    of_line = scanpys()[scanpys()["group"] == codes.categories[line]]
    theirs = of_line.set_index("names").loc[adata.var_names[ours.genes]]
    for column in COLUMNS:
        np.testing.assert_allclose(getattr(ours, column), theirs[column], rtol=1e-4, atol=1e-300, err_msg=column)
    np.testing.assert_allclose(ours.scores, of_line["scores"][:200], rtol=1e-6)


def random_values(cells: int, genes: int) -> Any:
    rng = np.random.default_rng(0)
    values = np.log1p(rng.poisson(0.7, size=(cells, genes))).astype(np.float32)
    values[:, 0] = 0.0
    values[:, 1] = 1.5
    return sp.csr_array(values)


def test_all_scores_are_scanpy_s_for_genes_that_do_not_vary_too() -> None:
    values, labels = random_values(90, 30), np.arange(90) % 3
    adata = sc.AnnData(values.toarray(), obs={"cluster": labels.astype(str)})
    adata.obs = adata.obs.astype("category")
    with warnings.catch_warnings(action="ignore"):
        sc.tl.rank_genes_groups(adata, "cluster", method="t-test", pts=True)
        theirs = sc.get.rank_genes_groups_df(adata, "1").set_index("names")
    ours = rank_genes(summed(values, labels, 3, size=7), 30)[1]
    assert ours is not None
    in_order = theirs.loc[adata.var_names[ours.genes]]
    for column in ("scores", "pvals", "pvals_adj", "logfoldchanges"):
        np.testing.assert_allclose(getattr(ours, column), in_order[column], rtol=1e-4, atol=1e-6, err_msg=column)


def test_a_cluster_of_one_cell_or_none_has_no_markers() -> None:
    labels = np.array([0] * 40 + [1] + [3] * 49)
    found = rank_genes(summed(random_values(90, 30), labels, 4), 5)
    assert [markers is None for markers in found] == [False, True, True, False]
    alone = rank_genes(summed(random_values(90, 30), np.zeros(90, int), 1), 5)
    assert alone == [None]


def test_blocks_and_workers_do_not_matter() -> None:
    values, labels = random_values(90, 30), np.arange(90) % 3
    one, cut, three = (
        rank_genes(summed(values, labels, 3, size, workers), 5)[0] for size, workers in ((90, 1), (11, 1), (11, 3))
    )
    assert isinstance(one, Markers)
    assert isinstance(cut, Markers)
    assert isinstance(three, Markers)
    assert np.array_equal(cut.scores, three.scores)
    np.testing.assert_allclose(one.scores, cut.scores, rtol=1e-12)
