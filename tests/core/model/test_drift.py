import numpy as np
import pytest
from scipy.linalg import subspace_angles
from sklearn.metrics import adjusted_rand_score

from tasks.core.model.drift import adjusted_rand_index, principal_angles


@pytest.mark.parametrize("clusters", [(3, 3), (4, 7), (1, 1), (1, 5)])
def test_the_adjusted_rand_index_is_sklearn_s(clusters: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    before = rng.integers(clusters[0], size=500)
    now = np.where(rng.random(500) < 0.3, rng.integers(clusters[1], size=500), before % clusters[1])
    table = np.zeros(clusters, np.int64)
    np.add.at(table, (before, now), 1)
    assert adjusted_rand_index(table) == pytest.approx(adjusted_rand_score(before, now))


def test_angles_are_those_of_scipy_and_zeros_span_nothing() -> None:
    rng = np.random.default_rng(0)
    v_gk, w_gl = (np.linalg.qr(rng.normal(size=(40, columns)))[0] for columns in (5, 3))
    expected = np.degrees(subspace_angles(v_gk, w_gl))[::-1]
    np.testing.assert_allclose(principal_angles(v_gk, w_gl), expected)
    padded = np.concatenate([w_gl, np.zeros((40, 2))], axis=1)
    np.testing.assert_allclose(principal_angles(v_gk, padded), expected)
