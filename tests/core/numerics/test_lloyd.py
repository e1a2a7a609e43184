import numpy as np
import pytest
from sklearn.cluster import KMeans

from tasks.core.numerics.block import NumberArray
from tasks.core.numerics.fold import Blocks
from tasks.core.numerics.lloyd import Centres, assign, lloyd

TOLERANCE = 1e-4


def blobs(cells: int, clusters: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    middles = rng.normal(scale=4.0, size=(clusters, 6))
    return middles[rng.integers(clusters, size=cells)] + rng.normal(size=(cells, 6))


def in_blocks(cells: np.ndarray, number: int) -> Blocks[NumberArray]:
    blocks = np.array_split(cells, number)
    names = [f"block {at}" for at in range(number)]
    return Blocks(blocks, names, [len(block) for block in blocks], lambda block: block, workers=2)


def settle(cells: np.ndarray, start: np.ndarray, blocks: int = 3, passes: int = 300) -> Centres:
    return lloyd(in_blocks(cells, blocks), start, TOLERANCE * float(cells.var(axis=0).mean()), passes)


@pytest.mark.parametrize("clusters", [1, 5, 20])
def test_agrees_with_sklearn_from_the_same_start(clusters: int) -> None:
    cells = blobs(2_000, 5)
    start = cells[:clusters]
    found = settle(cells, start)
    expected = KMeans(clusters, init=start, n_init=1, tol=TOLERANCE, algorithm="lloyd").fit(cells)
    np.testing.assert_allclose(found.centres, expected.cluster_centers_, atol=1e-10)
    assert np.array_equal(assign(cells, found.centres)[0], expected.labels_)
    assert assign(cells, found.centres)[1].sum() == pytest.approx(expected.inertia_)


@pytest.mark.parametrize("blocks", [1, 2, 7, 100])
def test_blocks_do_not_matter(blocks: int) -> None:
    cells = blobs(1_000, 5)
    np.testing.assert_allclose(settle(cells, cells[:8], blocks).centres, settle(cells, cells[:8]).centres, atol=1e-10)


def test_an_empty_cluster_takes_the_farthest_cell_as_in_sklearn() -> None:
    cells = blobs(300, 3)
    start = np.concatenate([cells[:3], np.full((2, 6), 1e3) + np.arange(2)[:, None]])
    found = settle(cells, start)
    expected = KMeans(5, init=start, n_init=1, tol=TOLERANCE).fit(cells)
    np.testing.assert_allclose(found.centres, expected.cluster_centers_, atol=1e-8)


def test_equal_cells_leave_clusters_empty_and_centres_finite() -> None:
    found = settle(np.ones((10, 2)), np.array([[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]]), blocks=2)
    assert np.isfinite(found.centres).all()


def test_passes_that_do_not_suffice_are_told() -> None:
    cells = blobs(2_000, 5)
    found = settle(cells, cells[:20], passes=2)
    assert (found.passes, found.settled) == (2, False)
