import numpy as np
from scipy.linalg import subspace_angles

from tasks.core.model.drift import principal_angles


def test_angles_are_those_of_scipy_and_zeros_span_nothing() -> None:
    rng = np.random.default_rng(0)
    v_gk, w_gl = (np.linalg.qr(rng.normal(size=(40, columns)))[0] for columns in (5, 3))
    expected = np.degrees(subspace_angles(v_gk, w_gl))[::-1]
    np.testing.assert_allclose(principal_angles(v_gk, w_gl), expected)
    padded = np.concatenate([w_gl, np.zeros((40, 2))], axis=1)
    np.testing.assert_allclose(principal_angles(v_gk, padded), expected)
