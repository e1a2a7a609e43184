from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp

from tasks.core.base.errors import NumericsError, SettingsError
from tasks.core.numerics.block import Block
from tasks.core.numerics.fold import Blocks
from tasks.core.numerics.krylov_pca import KrylovPCA
from tasks.core.numerics.krylov_svd import KrylovSVD
from tasks.core.numerics.ranked import RankedMatrix
from tests.core.estimators import SKIPPED, checks_not_passed
from tests.exact import correlations, decompose, well_separated


def sparse(cells: int, genes: int, seed: int = 0, density: float = 0.1) -> sp.csr_array:
    """A matrix whose genes differ in how often they are seen, in no order."""
    rng = np.random.default_rng(seed)
    often = rng.permutation(np.linspace(0.02, 2 * density, genes))
    return sp.csr_array(np.where(rng.random((cells, genes)) < often, rng.gamma(2.0, size=(cells, genes)), 0.0))


def low_rank(cells: int, genes: int) -> sp.csr_array:
    """A matrix of ten components and noise, its rows alike from end to end."""
    rng = np.random.default_rng(0)
    strong = rng.normal(size=(cells, 10)) * np.geomspace(0.75, 0.25, 10) @ rng.normal(size=(10, genes))
    return sp.csr_array(strong + rng.normal(size=(cells, genes)))


def in_blocks(matrix: sp.csr_array, sizes: list[int], workers: int = 2) -> RankedMatrix:
    """The matrix in blocks of these sizes."""
    whole = RankedMatrix.of(matrix, workers)
    ranked = Block.join([whole.blocks.read(source) for source in whole.blocks.sources])
    ends = np.cumsum(sizes)
    assert ends[-1] == matrix.shape[0]
    parts = [ranked.cut(end - size, end) for end, size in zip(ends, sizes, strict=True)]
    names = [f"block {at}" for at in range(len(parts))]
    return RankedMatrix(Blocks(parts, names, sizes, lambda part: part, workers), whole.ranks, whole.moments)


def test_is_a_scikit_learn_transformer() -> None:
    assert checks_not_passed(KrylovSVD()) == SKIPPED


@pytest.mark.parametrize(("cells", "genes", "components"), [(3_000, 200, 20), (200, 500, 50), (500, 30, 1)])
def test_agrees_with_the_exact_decomposition(cells: int, genes: int, components: int) -> None:
    matrix = sparse(cells, genes)
    svd = KrylovSVD(components, random_state=0)
    embedding = svd.fit_transform(matrix)
    exact = decompose(matrix, components)
    np.testing.assert_allclose(svd.singular_values_, exact.values, rtol=1e-4)
    np.testing.assert_allclose(svd.explained_variance_ratio_, exact.ratios, atol=1e-5)
    np.testing.assert_allclose(svd.explained_variance_, embedding.var(axis=0), rtol=1e-4)
    apart = well_separated(exact.values)
    assert (correlations(embedding, exact.embedding)[apart] >= 0.999).all()
    np.testing.assert_allclose(svd.components_ @ svd.components_.T, np.eye(components), atol=1e-6)
    largest = np.abs(svd.components_).argmax(axis=1)
    assert (svd.components_[np.arange(components), largest] > 0).all()


def test_residuals_bound_the_true_error() -> None:
    matrix = sparse(3_000, 300)
    exact = np.linalg.svd(matrix.toarray(), compute_uv=False)
    errors = []
    for tolerance in (0.3, 0.1, 1e-2, 1e-3):
        svd = KrylovSVD(20, tol=tolerance, random_state=0).fit(matrix)
        nearest = np.abs(svd.singular_values_[:, None] ** 2 - exact**2).min(axis=1) / svd.singular_values_**2
        assert (nearest <= svd.residuals_ + 1e-6).all()
        assert (svd.residuals_ <= tolerance).all()
        errors.append(np.abs(svd.singular_values_ / exact[:20] - 1).max())
    assert errors[-1] < 1e-4


@pytest.mark.parametrize(
    "sizes",
    [[600], [1, 599], [599, 1], [200, 200, 200], [1] * 600, [7] * 85 + [5]],
    ids=["one block", "a block of one cell", "a last block of one cell", "three", "a cell a block", "uneven"],
)
def test_blocks_do_not_matter(sizes: list[int]) -> None:
    matrix = sparse(600, 100)
    fits = [KrylovSVD(5, tol=1e-7, random_state=0).fit(x) for x in (matrix, in_blocks(matrix, sizes))]
    np.testing.assert_allclose(fits[1].singular_values_, fits[0].singular_values_, rtol=1e-5)
    np.testing.assert_allclose(fits[1].components_, fits[0].components_, atol=1e-5)
    np.testing.assert_allclose(fits[1].explained_variance_ratio_, fits[0].explained_variance_ratio_, rtol=1e-5)


@pytest.mark.parametrize("workers", [2, 3, 16])
def test_threads_do_not_matter_to_the_last_bit(workers: int) -> None:
    matrix = sparse(600, 100)
    fits = [KrylovSVD(5, random_state=0).fit(in_blocks(matrix, [50] * 12, threads)) for threads in (1, workers)]
    assert np.array_equal(fits[0].components_, fits[1].components_)
    assert np.array_equal(fits[0].singular_values_, fits[1].singular_values_)


def test_blocks_of_zeros_change_nothing_but_the_variance() -> None:
    matrix = sparse(600, 100)
    zeros = sp.csr_array((50, 100))
    padded = sp.csr_array(sp.vstack([zeros, matrix[:300], zeros, zeros, matrix[300:], zeros]))
    alone = KrylovSVD(5, tol=1e-7, random_state=0).fit(matrix)
    among = KrylovSVD(5, tol=1e-7, random_state=0).fit(in_blocks(padded, [50] * 16))
    np.testing.assert_allclose(among.singular_values_, alone.singular_values_, rtol=1e-5)
    np.testing.assert_allclose(among.components_, alone.components_, atol=1e-5)


def test_components_past_the_rank_are_zeros() -> None:
    rng = np.random.default_rng(0)
    matrix = sp.csr_array(rng.random((60, 5)) @ rng.random((5, 40)))
    svd = KrylovSVD(12, random_state=0)
    embedding = svd.fit_transform(matrix)
    exact = np.linalg.svd(matrix.toarray(), compute_uv=False)
    assert svd.rank_ == 5
    np.testing.assert_allclose(svd.singular_values_[:5], exact[:5], rtol=1e-4)
    assert not svd.singular_values_[5:].any()
    assert not svd.components_[5:].any()
    assert not embedding[:, 5:].any()
    assert not svd.explained_variance_[5:].any()


@pytest.mark.parametrize("components", [1, 12])
def test_a_matrix_of_zeros_has_no_components(components: int) -> None:
    svd = KrylovSVD(components).fit(sp.csr_array((30, 40)))
    assert (svd.rank_, svd.n_passes_) == (0, 0)
    assert svd.components_.shape == (components, 40)
    assert not svd.components_.any()
    assert not svd.explained_variance_ratio_.any()


def test_as_many_components_as_columns_are_the_limit() -> None:
    matrix = sparse(300, 30)
    svd = KrylovSVD(30, random_state=0).fit(matrix)
    np.testing.assert_allclose(svd.singular_values_, np.linalg.svd(matrix.toarray(), compute_uv=False), rtol=1e-4)
    assert svd.rank_ == 30
    with pytest.raises(SettingsError, match="n_components=31 must be from 1 to the columns, n_features=30"):
        KrylovSVD(31).fit(matrix)


def test_fewer_expressed_columns_than_components_are_no_trouble() -> None:
    matrix = sparse(300, 30)
    wide = sp.csr_array(sp.hstack([sp.csr_array((300, 10)), matrix, sp.csr_array((300, 40))]))
    svd = KrylovSVD(50, random_state=0).fit(wide)
    assert svd.rank_ == 30
    assert not svd.components_[:, :10].any()
    assert not svd.components_[:, 40:].any()


def test_passes_that_do_not_suffice_leave_components_unsettled() -> None:
    svd = KrylovSVD(20, max_passes=4, random_state=0).fit(sparse(1_000, 300))
    assert svd.n_passes_ == 4
    assert not svd.settled_.all()
    assert (svd.settled_ == (svd.residuals_ <= svd.tol)).all()


def rank_three(cells: int, genes: int) -> sp.csr_array:
    rng = np.random.default_rng(0)
    return sp.csr_array(rng.random((cells, 3)) @ rng.random((3, genes)))


@pytest.mark.parametrize("estimator", [KrylovSVD, KrylovPCA])
@pytest.mark.parametrize("made", [sparse, rank_three])
@pytest.mark.parametrize("warm", [False, True])
@pytest.mark.parametrize("max_passes", [1, 2, 3, 5])
def test_passes_are_never_more_than_the_most_however_many_components_are_asked_for(
    estimator: type[KrylovSVD], made: Callable[[int, int], sp.csr_array], max_passes: int, *, warm: bool
) -> None:
    x_ng = made(300, 150)
    matrix = in_blocks(x_ng, [20] * 15)
    reads: list[bool] = []

    def read(part: Block) -> Block:
        # The second block is not of the sample that a cold start looks at.
        reads.append(part is matrix.blocks.sources[1])
        return part

    counted = replace(matrix, blocks=replace(matrix.blocks, read=read))
    init = np.linalg.qr(np.random.default_rng(1).normal(size=(150, 9)))[0].T if warm else None
    svd = estimator(100, max_passes=max_passes, random_state=0, init=init).fit(counted)
    assert sum(reads) == svd.n_passes_ <= max_passes
    dense = x_ng.toarray() - (x_ng.toarray().mean(axis=0) if estimator is KrylovPCA else 0.0)
    exact = np.linalg.svd(dense, compute_uv=False)[:100]
    assert (svd.singular_values_ <= exact + 1e-3 * exact[0]).all(), "they are of a part of the space"
    assert svd.rank_ == (3 if made is rank_three else 100)
    assert svd.settled_.tolist() == (svd.residuals_ <= svd.tol).tolist()
    if made is rank_three and max_passes > 1:
        np.testing.assert_allclose(svd.singular_values_[:3], exact[:3], rtol=1e-4)


def test_a_block_that_is_not_finite_is_named() -> None:
    matrix = in_blocks(sparse(100, 30), [50, 50])
    matrix.blocks.sources[1].values[3] = np.nan
    with pytest.raises(NumericsError, match="block 1 holds values that are not finite"):
        KrylovSVD(3).fit(matrix)


def test_components_to_start_from_save_passes_and_set_the_signs() -> None:
    matrix = low_rank(4_000, 300)
    before = KrylovSVD(10, random_state=0).fit(matrix[:3_600])
    before.components_ *= -1
    cold = KrylovSVD(10, random_state=0).fit(matrix)
    warm = KrylovSVD(10, random_state=0, init=before.components_).fit(matrix)
    np.testing.assert_allclose(warm.singular_values_, cold.singular_values_, rtol=1e-4)
    assert warm.n_passes_ < cold.n_passes_
    assert ((warm.components_ * before.components_).sum(axis=1) > 0).all()


def test_a_start_that_is_unlike_the_matrix_leads_to_the_same_components() -> None:
    matrix = sparse(1_000, 100)
    strange = np.linalg.qr(np.random.default_rng(1).normal(size=(100, 3)))[0].T
    started = KrylovSVD(5, tol=1e-7, random_state=0, init=strange).fit(matrix)
    fresh = KrylovSVD(5, tol=1e-7, random_state=0).fit(matrix)
    np.testing.assert_allclose(started.singular_values_, fresh.singular_values_, rtol=1e-5)


def test_a_start_of_other_columns_is_refused() -> None:
    with pytest.raises(SettingsError, match="init has 7 columns, the matrix 100"):
        KrylovSVD(2, init=np.zeros((2, 7))).fit(sparse(50, 100))
