import harmonypy
import numpy as np
import pytest

from tasks.core.numerics.lisi import lisi, mixing


@pytest.mark.parametrize("apart", [0.0, 1.0, 9.0])
def test_agrees_with_harmonypy(apart: float) -> None:
    rng = np.random.default_rng(0)
    batches = rng.integers(3, size=600)
    cells = rng.normal(size=(600, 5))
    cells[:, 0] += apart * batches
    theirs = harmonypy.compute_lisi(cells, {"plate": batches}, ["plate"])[:, 0]
    np.testing.assert_allclose(lisi(cells, batches), theirs, atol=2e-3)


def test_mixing_goes_from_0_to_1() -> None:
    rng = np.random.default_rng(0)
    batches = np.arange(600) % 3
    cells = rng.normal(size=(600, 5))
    mixed = mixing(cells, batches)
    assert mixed is not None
    assert 0.8 < mixed <= 1.0
    assert mixing(cells + 50.0 * batches[:, None], batches) == pytest.approx(0.0)
    assert mixing(cells, np.zeros(600, int)) is None


def test_equal_and_few_cells_have_an_index() -> None:
    assert np.isfinite(lisi(np.zeros((200, 2)), np.arange(200) % 2)).all()
    np.testing.assert_allclose(lisi(np.zeros((1, 2)), np.zeros(1, int)), 1.0)
    assert np.isfinite(lisi(np.arange(4.0)[:, None], np.array([0, 1, 1, 0]))).all()
