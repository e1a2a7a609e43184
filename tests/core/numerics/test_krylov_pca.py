from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.decomposition import PCA

from tasks.core.numerics.block import Block
from tasks.core.numerics.fold import Blocks
from tasks.core.numerics.gram import CentredGram
from tasks.core.numerics.group_moments import GroupMoments, counts_per_million
from tasks.core.numerics.krylov_pca import KrylovPCA
from tasks.core.numerics.moments import Moments
from tasks.core.numerics.ranked import RankedMatrix
from tasks.core.numerics.scaling import Scaling, keep_genes
from tasks.core.numerics.variable_genes import choose_seurat
from tests.core.estimators import SKIPPED, checks_not_passed
from tests.core.numerics.batches import BatchedCells, scanpy
from tests.exact import correlations, well_separated


def as_it_is(block: Block, genes: int) -> tuple[Any, np.ndarray]:
    """The matrix, and the same dense."""
    x_ng = block.matrix(genes)
    return x_ng, x_ng.toarray().astype(np.float64)


def scaled(block: Block, genes: int) -> tuple[Any, np.ndarray]:
    """The matrix scaled by us, and dense by scanpy."""
    x_ng = Scaling.of(Moments.of(block, genes)).apply(block).matrix(genes)
    with scanpy() as sc:
        return x_ng, sc.pp.scale(as_it_is(block, genes)[1], max_value=10)


def simulated(cells: int = 600, genes: int = 200) -> sp.csr_array:
    return sp.csr_array(BatchedCells.simulated(cells, genes).normalized.matrix(genes))


def in_blocks(x_ng: sp.csr_array, size: int, workers: int = 2) -> RankedMatrix:
    block = Block(x_ng.indptr, x_ng.indices, x_ng.data)
    genes = x_ng.shape[1]
    moments = Moments.of(block, genes)
    parts = [block.cut(start, min(start + size, block.cells)) for start in range(0, block.cells, size)]
    blocks = Blocks(parts, [f"block {at}" for at in range(len(parts))], [part.cells for part in parts], _same, workers)
    return RankedMatrix(blocks, np.arange(genes, dtype=np.int32), moments)


def _same(block: Block) -> Block:
    return block


def assert_same(pca: KrylovPCA, embedding: np.ndarray, exact: Any, expected: np.ndarray) -> None:
    np.testing.assert_allclose(pca.singular_values_, exact.singular_values_, rtol=1e-4)
    np.testing.assert_allclose(pca.explained_variance_, exact.explained_variance_, rtol=1e-4)
    np.testing.assert_allclose(pca.explained_variance_ratio_, exact.explained_variance_ratio_, rtol=1e-4)
    apart = well_separated(exact.singular_values_)
    assert (correlations(embedding, expected)[apart] >= 0.999).all()
    assert ((embedding * expected).sum(axis=0)[apart] > 0).all(), "signs are sklearn's"
    np.testing.assert_allclose(embedding.mean(axis=0), 0.0, atol=1e-3)


def test_is_a_scikit_learn_transformer() -> None:
    assert checks_not_passed(KrylovPCA()) == SKIPPED


@pytest.mark.parametrize("prepare", [as_it_is, scaled])
def test_agrees_with_scanpy_s_pca_of_real_cells(real_dataset: Path, prepare: Any) -> None:
    cells = BatchedCells.read(real_dataset)
    cpm = counts_per_million(cells.normalized)
    chosen = choose_seurat(GroupMoments.of(cpm, np.zeros(cpm.cells, np.int64), [""], cells.genes).whole, 2_000).chosen
    block = keep_genes(cells.normalized, np.where(chosen, np.cumsum(chosen) - 1, -1))
    x_ng, dense = prepare(block, int(chosen.sum()))
    pca = KrylovPCA(50, random_state=0)
    embedding = pca.fit_transform(x_ng)
    with scanpy() as sc:
        theirs = sc.pp.pca(dense, n_comps=50, svd_solver="arpack", dtype="float64", return_info=True)
    exact = PCA(50, svd_solver="full").fit(dense)
    np.testing.assert_allclose(pca.explained_variance_ratio_, theirs[2], rtol=1e-4)
    np.testing.assert_allclose(pca.explained_variance_, theirs[3], rtol=1e-4)
    assert_same(pca, embedding, exact, theirs[0])
    # Closer than the contract asks: here neighbours that are near each other are told apart too.
    assert (correlations(embedding, theirs[0]) >= 0.999).all()
    np.testing.assert_allclose(pca.mean_, x_ng.mean(axis=0), atol=1e-5)


@pytest.mark.parametrize(("cells", "genes", "components"), [(3_000, 200, 20), (200, 500, 50), (500, 60, 1)])
@pytest.mark.parametrize("prepare", [as_it_is, scaled])
def test_agrees_with_scikit_learn_on_simulated_cells(cells: int, genes: int, components: int, prepare: Any) -> None:
    x_ng, dense = prepare(BatchedCells.simulated(cells, genes).normalized, genes)
    exact = PCA(components, svd_solver="full")
    expected = exact.fit_transform(dense)
    pca = KrylovPCA(components, random_state=0)
    assert_same(pca, pca.fit_transform(x_ng), exact, expected)


def test_residuals_are_those_of_the_centred_matrix() -> None:
    x_ng = simulated(3_000, 300)
    dense = x_ng.toarray().astype(np.float64)
    dense -= dense.mean(axis=0)
    pca = KrylovPCA(20, tol=1e-2, random_state=0).fit(x_ng)
    v_gk, squares = pca.components_.T, pca.singular_values_**2
    left_over = dense.T @ (dense @ v_gk) - v_gk * squares
    np.testing.assert_allclose(np.linalg.norm(left_over, axis=0) / squares, pca.residuals_, atol=1e-4)
    assert pca.settled_.all()


def test_some_of_the_rows_are_centred_at_the_mean_of_all() -> None:
    x_ng = simulated()
    matrix = in_blocks(x_ng, 50)
    q_gl = np.random.default_rng(0).normal(size=(matrix.moments.extent, 4)).astype(np.float32)
    dense = x_ng.toarray().astype(np.float64)[:, : matrix.moments.extent]
    sample = (dense - dense.mean(axis=0)).reshape(12, 50, -1)[::3].reshape(200, -1)
    product = CentredGram(matrix.blocks.every(3), matrix.moments)(q_gl[matrix.moments.expressed])
    expected = (sample.T @ (sample @ q_gl))[matrix.moments.expressed]
    np.testing.assert_allclose(product, expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("size", [1, 7, 50, 599, 600])
def test_blocks_do_not_matter(size: int) -> None:
    x_ng = simulated()
    fits = [KrylovPCA(5, tol=1e-7, random_state=0).fit(x) for x in (x_ng, in_blocks(x_ng, size))]
    np.testing.assert_allclose(fits[1].singular_values_, fits[0].singular_values_, rtol=1e-5)
    np.testing.assert_allclose(fits[1].components_, fits[0].components_, atol=1e-4)
    np.testing.assert_allclose(fits[1].mean_, fits[0].mean_, atol=1e-6)


@pytest.mark.parametrize("workers", [2, 16])
def test_threads_do_not_matter_to_the_last_bit(workers: int) -> None:
    fits = [KrylovPCA(5, random_state=0).fit(in_blocks(simulated(), 50, threads)) for threads in (1, workers)]
    assert np.array_equal(fits[0].components_, fits[1].components_)
    assert np.array_equal(fits[0].singular_values_, fits[1].singular_values_)


@pytest.mark.parametrize("cells", [1, 40])
def test_equal_cells_have_no_components(cells: int) -> None:
    pca = KrylovPCA(5, random_state=0).fit(np.tile(np.random.default_rng(0).random(100), (cells, 1)))
    assert pca.rank_ == 0
    assert not pca.components_.any()
    assert not pca.explained_variance_ratio_.any()


def test_a_mean_takes_one_from_the_rank() -> None:
    assert KrylovPCA(40, random_state=0).fit(np.random.default_rng(0).normal(size=(30, 100))).rank_ == 29


def test_a_mean_far_from_zero_takes_few_digits() -> None:
    dense = np.random.default_rng(0).normal(size=(2_000, 50)) + 100
    exact = PCA(5, svd_solver="full").fit(dense)
    np.testing.assert_allclose(KrylovPCA(5).fit(dense).singular_values_, exact.singular_values_, rtol=1e-4)
