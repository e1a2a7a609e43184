from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from sklearn.neighbors import NearestNeighbors
from sklearn.utils._openmp_helpers import _openmp_effective_n_threads

from tasks.core.numerics.neighbours import nearest, shares


def test_nearest_are_those_of_all_distances() -> None:
    rng = np.random.default_rng(0)
    points, among = rng.normal(size=(30, 5)).astype(np.float32), rng.normal(size=(400, 5)).astype(np.float32)
    which, distances = nearest(points, among, 7)
    expected = cdist(points, among)
    assert np.array_equal(which, expected.argsort(axis=1)[:, :7])
    np.testing.assert_allclose(distances, np.sort(expected, axis=1)[:, :7])
    of_each, _ = nearest(None, among, 3)
    assert np.array_equal(of_each, cdist(among, among).argsort(axis=1)[:, 1:4])


def test_a_thread_of_a_fold_starts_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[int] = []
    search = NearestNeighbors.kneighbors

    def watched(self: NearestNeighbors, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        threads.append(_openmp_effective_n_threads())
        found: tuple[np.ndarray, np.ndarray] = search(self, points)
        return found

    monkeypatch.setattr(NearestNeighbors, "kneighbors", watched)
    with ThreadPoolExecutor(1) as executor:
        executor.submit(nearest, np.zeros((2, 3)), np.eye(3), 1).result()
    assert threads == [1]


def test_shares_fall_with_distance_and_one_at_no_distance_has_all() -> None:
    found = shares(np.array([[1.0, 2.0, 2.0], [0.0, 1.0, 5.0], [0.0, 0.0, 1.0], [0.0, 0.0, 0.0]]))
    expected = [[4 / 6, 1 / 6, 1 / 6], [1.0, 0.0, 0.0], [0.5, 0.5, 0.0], [1 / 3, 1 / 3, 1 / 3]]
    np.testing.assert_allclose(found, expected, atol=1e-9)
