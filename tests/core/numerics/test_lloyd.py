import warnings

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning

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


@pytest.mark.parametrize("copies", [1, 2, 30])
@pytest.mark.parametrize("clusters", [7, 8, 12, 21])
def test_more_clusters_than_distinct_cells_end_no_worse_than_sklearns(clusters: int, copies: int) -> None:
    distinct = np.random.default_rng(0).normal(3.0, 1.0, size=(7, 6))
    cells = np.tile(distinct, (copies * 3, 1))
    start = np.random.default_rng(1).normal(size=(clusters, 6))
    found = settle(cells, start)
    with warnings.catch_warnings(action="ignore", category=ConvergenceWarning):
        expected = KMeans(clusters, init=start, n_init=1, tol=TOLERANCE, algorithm="lloyd").fit(cells)
    labels, distances = assign(cells, found.centres)
    assert found.settled
    assert distances.sum() <= expected.inertia_ + 1e-20
    assert distances.max() < 1e-20
    # Of clusters at one place the first has the cells; each is where cells are.
    assert len(np.unique(labels)) == 7
    assert cdist(found.centres, distinct).min(axis=1).max() < 1e-12


def test_a_cluster_that_gave_its_last_cell_away_is_where_the_largest_is_as_in_sklearn() -> None:
    cells = np.array([[0.0, 1.0]] * 5 + [[1.0, 1.0]] * 5 + [[60.0, 2.0]])
    # The last centre has no cell, and takes that of the one before it, which is farthest from its own.
    start = np.array([[0.5, 1.0], [50.0, 2.0], [-500.0, 0.0]])
    found = settle(cells, start, passes=1)
    with pytest.warns(ConvergenceWarning):
        expected = KMeans(3, init=start, n_init=1, max_iter=1, algorithm="lloyd").fit(cells)
    np.testing.assert_allclose(found.centres, expected.cluster_centers_)
    np.testing.assert_allclose(found.centres, [[0.5, 1.0], [0.5, 1.0], [60.0, 2.0]])


@pytest.mark.parametrize("blocks", [1, 2, 10])
def test_equal_cells_leave_clusters_where_the_largest_is(blocks: int) -> None:
    found = settle(np.ones((10, 2)), np.array([[3.0, 3.0], [1.0, 1.0], [2.0, 2.0]]), blocks)
    assert np.array_equal(found.centres, np.ones((3, 2)))
    assert found.settled


def test_of_centres_at_one_place_the_first_has_all_cells_however_they_are_cut() -> None:
    rng = np.random.default_rng(0)
    for _ in range(100):
        cells, centre = rng.normal(size=(40, 37)), rng.normal(size=(1, 37))
        centres = np.concatenate([centre + 100.0, centre.repeat(rng.integers(2, 64), axis=0)])
        for size in (1, 3, 40):
            assert (assign(cells[:size], centres)[0] == 1).all()


def test_passes_that_do_not_suffice_are_told() -> None:
    cells = blobs(2_000, 5)
    found = settle(cells, cells[:20], passes=2)
    assert (found.passes, found.settled) == (2, False)
