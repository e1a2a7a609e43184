import warnings
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import scanpy as sc
import scipy.sparse as sp

from tasks.core.numerics import markers
from tasks.core.numerics.block import Block, IntArray
from tasks.core.numerics.fold import Blocks
from tasks.core.numerics.markers import Markers, rank_genes, sum_genes
from tasks.core.numerics.moments import Moments
from tests.core.numerics.mixology import normalized
from tests.memory import most_memory

COLUMNS = ("scores", "logfoldchanges", "pvals", "pvals_adj", "pct_nz_group", "pct_nz_reference")


def cut(matrix: Any, size: int, workers: int) -> Blocks[Block]:
    whole = Block(matrix.indptr, matrix.indices, matrix.data)
    starts = range(0, whole.cells, size)
    rows = [min(size, whole.cells - start) for start in starts]
    return Blocks(
        starts, [""] * len(rows), rows, lambda start: whole.cut(start, min(start + size, whole.cells)), workers
    )


def ranked(
    matrix: Any, labels: IntArray, clusters: int, most: int, size: int = 300, workers: int = 1
) -> list[Markers | None]:
    of_cells: Blocks[IntArray] = Blocks.cut(labels, size, workers)
    return rank_genes(cut(matrix, size, workers), of_cells, clusters, matrix.shape[1], most)


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
    ours = ranked(adata.X, codes.codes.to_numpy().astype(int), 5, 200)[line]
    assert ours is not None
    of_line = scanpys()[scanpys()["group"] == codes.categories[line]]
    theirs = of_line.set_index("names").loc[adata.var_names[ours.genes]]
    for column in COLUMNS:
        np.testing.assert_allclose(getattr(ours, column), theirs[column], rtol=1e-4, atol=1e-300, err_msg=column)
    assert (np.diff(ours.cohens_d) <= 0).all()


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
    ours = ranked(values, labels, 3, 30, size=7)[1]
    assert ours is not None
    in_order = theirs.loc[adata.var_names[ours.genes]]
    for column in ("scores", "pvals", "pvals_adj", "logfoldchanges"):
        np.testing.assert_allclose(getattr(ours, column), in_order[column], rtol=1e-4, atol=1e-6, err_msg=column)


def test_a_cluster_of_one_cell_or_none_has_no_markers() -> None:
    labels = np.array([0] * 40 + [1] + [3] * 49)
    found = ranked(random_values(90, 30), labels, 4, 5)
    assert [markers is None for markers in found] == [False, True, True, False]
    alone = ranked(random_values(90, 30), np.zeros(90, int), 1, 5)
    assert alone == [None]


def test_blocks_and_workers_do_not_matter() -> None:
    values, labels = random_values(90, 30), np.arange(90) % 3
    one, cut, three = (ranked(values, labels, 3, 5, size, workers)[0] for size, workers in ((90, 1), (11, 1), (11, 3)))
    assert isinstance(one, Markers)
    assert isinstance(cut, Markers)
    assert isinstance(three, Markers)
    assert np.array_equal(cut.scores, three.scores)
    np.testing.assert_allclose(one.scores, cut.scores, rtol=1e-12)


def test_genes_are_ranked_by_an_effect_that_does_not_grow_with_the_cells() -> None:
    values, labels = random_values(90, 30), np.arange(90) % 3
    once, often = (ranked(sp.vstack([values] * times), np.tile(labels, times), 3, 30)[1] for times in (1, 50))
    assert once is not None
    assert often is not None
    dense = values.toarray()
    inside, outside = dense[labels == 1][:, once.genes], dense[labels != 1][:, once.genes]
    spread = np.sqrt((inside.var(axis=0, ddof=1) + outside.var(axis=0, ddof=1)) / 2)
    np.testing.assert_allclose(once.cohens_d * spread, inside.mean(axis=0) - outside.mean(axis=0), atol=1e-6)
    assert often.genes[:10].tolist() == once.genes[:10].tolist()
    np.testing.assert_allclose(often.cohens_d, once.cohens_d, rtol=0.03)
    assert often.scores[0] > 5 * once.scores[0]


def test_what_only_a_cluster_expresses_is_expressed_by_none_of_the_rest() -> None:
    values = random_values(90, 30).toarray()
    values[:, 5] = np.where(np.arange(90) % 3 == 1, np.log1p(np.arange(90) / 7), 0.0)
    found = ranked(sp.csr_array(values), np.arange(90) % 3, 3, 30, size=7)[1]
    assert found is not None
    assert found.genes[0] == 5
    assert found.pct_nz_reference[0] == 0.0
    assert found.logfoldchanges[0] > 25


def test_each_cluster_is_summed_up_once_and_in_parts_where_they_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    values, labels = random_values(90, 30), np.arange(90) % 9
    at_once = ranked(values, labels, 9, 5, size=11)
    # So that two clusters make a pass.
    monkeypatch.setattr(markers, "_MOST_SUMS", 60)
    for one, other in zip(at_once, ranked(values, labels, 9, 5, size=11), strict=True):
        assert one is not None
        assert other is not None
        assert one.genes.tolist() == other.genes.tolist()
        np.testing.assert_allclose(one.scores, other.scores, rtol=1e-12)
        np.testing.assert_array_equal(one.pct_nz_reference, other.pct_nz_reference)


def test_memory_does_not_grow_with_the_clusters() -> None:
    values = sp.random_array((2_000, 20_000), density=0.005, rng=0, format="csr", dtype=np.float32)

    def most(clusters: int) -> int:
        with most_memory() as found:
            ranked(values, np.arange(2_000) % clusters, clusters, 5, size=500)
        return found.bytes

    # Fifty make a pass.
    assert most(300) < 1.5 * most(50)


def test_each_cell_is_read_once_and_each_cluster_taken_from_all_cells_once(monkeypatch: pytest.MonkeyPatch) -> None:
    values, reads, differences = random_values(600, 30), 0, 0
    blocks, minus = cut(values, 50, 1), Moments.__sub__

    def read(source: int) -> Block:
        nonlocal reads
        reads += 1
        return blocks.read(source)

    def subtract(whole: Moments, part: Moments) -> Moments:
        nonlocal differences
        differences += 1
        return minus(whole, part)

    monkeypatch.setattr(Moments, "__sub__", subtract)
    labels: Blocks[IntArray] = Blocks.cut(np.arange(600) % 100, 50, 1)
    rank_genes(replace(blocks, read=read), labels, 100, 30, 5)
    assert (reads, differences) == (12, 100)


def test_some_genes_are_summed_up_by_themselves() -> None:
    values, labels = random_values(90, 30), np.arange(90) % 3
    columns = np.full(30, -1)
    columns[[7, 3]] = [0, 1]
    sums = sum_genes(cut(values, 11, 2), Blocks.cut(labels, 11, 2), 3, columns)
    dense = values.toarray()[:, [7, 3]]
    np.testing.assert_allclose(sums.sums_cg, [dense[labels == at].sum(axis=0) for at in range(3)], rtol=1e-6)
    np.testing.assert_array_equal(sums.expressing_cg, [(dense[labels == at] > 0).sum(axis=0) for at in range(3)])
