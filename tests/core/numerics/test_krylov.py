import numpy as np
import pytest
import scipy.sparse as sp
from scipy.linalg import hilbert

from tasks.core.base.errors import NumericsError
from tasks.core.numerics.block import Float32Array, Float64Array
from tasks.core.numerics.krylov import BlockKrylov, RitzPairs


def solve(matrix: sp.csr_array, components: int, tolerance: float = 1e-5) -> tuple[BlockKrylov, RitzPairs]:
    matrix = matrix.astype(np.float64)

    def gram(q_gl: Float32Array) -> Float64Array:
        return np.asarray(matrix.T @ (matrix @ q_gl.astype(np.float64)))

    krylov = BlockKrylov(matrix.shape[1], components, np.random.default_rng(0), 200)
    for _ in range(200):
        krylov.advance(gram)
        pairs = krylov.ritz()
        if krylov.is_complete or (len(pairs.values) == components and pairs.residuals.max() <= tolerance):
            return krylov, pairs
    pytest.fail("did not settle")


def sparse(cells: int, genes: int, seed: int = 0) -> sp.csr_array:
    return sp.csr_array(sp.random_array((cells, genes), density=0.1, rng=np.random.default_rng(seed)))


@pytest.mark.parametrize(("cells", "genes", "components"), [(300, 200, 20), (200, 500, 50), (60, 40, 39), (500, 30, 1)])
def test_agrees_with_the_exact_decomposition(cells: int, genes: int, components: int) -> None:
    matrix = sparse(cells, genes)
    krylov, pairs = solve(matrix, components)
    _, exact, right = np.linalg.svd(matrix.toarray())
    np.testing.assert_allclose(pairs.values, exact[:components], rtol=1e-6)
    overlaps = np.abs(np.einsum("gk,kg->k", krylov.vectors(pairs.coordinates), right[:components]))
    gaps = np.abs(np.diff(exact[: components + 1])) / exact[:components] if components < len(exact) else np.ones(1)
    apart = np.minimum(gaps, np.concatenate([[1.0], gaps[:-1]])) > 0.01
    assert (overlaps[: len(apart)][apart] > 0.999).all()


def test_residuals_are_those_of_the_vectors() -> None:
    matrix = sparse(300, 200)
    krylov, pairs = solve(matrix, 20, tolerance=1e-2)
    v_gk = krylov.vectors(pairs.coordinates)
    left_over = matrix.T @ (matrix @ v_gk) - v_gk * pairs.values**2
    np.testing.assert_allclose(np.linalg.norm(left_over, axis=0) / pairs.values**2, pairs.residuals, atol=1e-6)


def test_residuals_bound_the_error_of_singular_values() -> None:
    matrix = sparse(300, 200)
    exact = np.linalg.svd(matrix.toarray(), compute_uv=False)
    for tolerance in (0.3, 0.1, 1e-2, 1e-3):
        _, pairs = solve(matrix, 20, tolerance)
        nearest = np.abs(pairs.values[:, None] ** 2 - exact**2).min(axis=1) / pairs.values**2
        assert (nearest <= pairs.residuals + 1e-7).all()


def test_vectors_stay_orthonormal_through_restarts() -> None:
    matrix = sparse(400, 400)
    krylov, pairs = solve(matrix, 40)
    assert krylov.passes * krylov.width > krylov.most_columns, "the case must make it restart"
    v_gk = krylov.vectors(pairs.coordinates)
    np.testing.assert_allclose(v_gk.T @ v_gk, np.eye(40), atol=1e-10)


def test_memory_is_bounded_however_many_passes() -> None:
    krylov = BlockKrylov(500, 40, np.random.default_rng(0), 40)
    rng = np.random.default_rng(1)
    diagonal = 1 + rng.random(500)[:, None]
    for _ in range(40):
        krylov.advance(lambda q_gl: diagonal * q_gl)
        assert sum(block.shape[1] for block in krylov.basis) <= krylov.most_columns


def test_a_matrix_of_low_rank_gives_zeros_past_its_rank() -> None:
    rng = np.random.default_rng(0)
    matrix = sp.csr_array(rng.random((60, 5)) @ rng.random((5, 40)))
    _, pairs = solve(matrix, 12)
    exact = np.linalg.svd(matrix.toarray(), compute_uv=False)
    np.testing.assert_allclose(pairs.values[:5], exact[:5], rtol=1e-6)
    assert (pairs.values[5:] < 1e-4 * exact[0]).all()


def test_a_matrix_of_zeros_gives_zeros() -> None:
    krylov, pairs = solve(sp.csr_array((30, 40)), 12)
    assert pairs.values.tolist() == [0.0] * 12
    v_gk = krylov.vectors(pairs.coordinates)
    np.testing.assert_allclose(v_gk.T @ v_gk, np.eye(12), atol=1e-10)


def test_an_ill_conditioned_matrix_is_no_trouble() -> None:
    matrix = sp.csr_array(hilbert(60))
    _, pairs = solve(matrix, 5)
    np.testing.assert_allclose(pairs.values, np.linalg.svd(hilbert(60), compute_uv=False)[:5], rtol=1e-4)


def test_values_that_are_not_finite_are_refused() -> None:
    krylov = BlockKrylov(20, 3, np.random.default_rng(0), 9)
    with pytest.raises(NumericsError, match="not finite"):
        krylov.advance(lambda q_gl: np.full(q_gl.shape, np.nan))
