import numpy as np
import pytest
from sklearn.cluster import KMeans

from tasks.core.base.errors import SettingsError
from tasks.core.numerics.block_kmeans import BlockKMeans
from tests.core.estimators import SKIPPED, checks_not_passed
from tests.core.numerics.test_lloyd import blobs, in_blocks


def test_is_a_scikit_learn_clusterer() -> None:
    assert checks_not_passed(BlockKMeans(n_init=1)) == SKIPPED


def test_agrees_with_sklearn_where_all_points_fit_the_sample() -> None:
    points = blobs(3_000, 6)
    ours = BlockKMeans(6, random_state=0).fit(points)
    theirs = KMeans(6, n_init=10, random_state=0).fit(points)
    assert ours.inertia_ == pytest.approx(theirs.inertia_, rel=1e-6)
    assert ours.cluster_sizes_.tolist() == np.bincount(ours.labels_).tolist()
    assert sorted(ours.cluster_sizes_) == sorted(np.bincount(theirs.labels_))


def test_a_sample_leads_to_centres_that_are_exact_for_all_points() -> None:
    points = blobs(5_000, 6)
    ours = BlockKMeans(6, sample_size=500, random_state=0).fit(points)
    assert ours.settled_
    means = [points[ours.labels_ == cluster].mean(axis=0) for cluster in range(6)]
    np.testing.assert_allclose(ours.cluster_centers_, means, atol=1e-2)
    theirs = KMeans(6, n_init=10, random_state=0).fit(points)
    assert ours.inertia_ == pytest.approx(theirs.inertia_, rel=1e-3)


def test_there_may_be_more_clusters_than_the_sample_was_to_have_points() -> None:
    points = blobs(200, 6)
    ours = BlockKMeans(60, sample_size=20, n_init=1, random_state=0).fit(points)
    assert (ours.cluster_sizes_ > 0).all()
    assert ours.cluster_sizes_.sum() == 200


@pytest.mark.parametrize("blocks", [1, 3, 50, 1_000])
def test_blocks_do_not_matter(blocks: int) -> None:
    points = blobs(1_000, 5)
    whole = BlockKMeans(5, sample_size=200, random_state=0).fit(points)
    cut = BlockKMeans(5, sample_size=200, random_state=0).fit(in_blocks(points, blocks))
    np.testing.assert_allclose(cut.cluster_centers_, whole.cluster_centers_, atol=1e-10)
    assert np.array_equal(cut.predict(points), whole.labels_)
    assert cut.inertia_ == pytest.approx(whole.inertia_)


def test_more_clusters_than_points_are_refused() -> None:
    with pytest.raises(SettingsError, match="n_clusters=9 must be from 1 to the points, n_samples=8"):
        BlockKMeans(9).fit(blobs(8, 2))


def test_centres_to_start_from_lead_where_they_lead_sklearn() -> None:
    points = blobs(2_000, 6)
    start = points[:6]
    ours = BlockKMeans(6, init=start).fit(points)
    theirs = KMeans(6, init=start, n_init=1, algorithm="lloyd").fit(points)
    np.testing.assert_allclose(ours.cluster_centers_, theirs.cluster_centers_, atol=1e-10)


def test_centres_of_another_shape_are_refused() -> None:
    with pytest.raises(SettingsError, match=r"init is of shape \(2, 6\), not \(3, 6\)"):
        BlockKMeans(3, init=np.zeros((2, 6))).fit(blobs(50, 3))
