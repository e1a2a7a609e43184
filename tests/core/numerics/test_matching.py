import numpy as np
import pytest

from tasks.core.numerics.matching import change_basis, match, names_after, relative_shifts

BEFORE = np.array([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0], [10.0, 10.0]])


def test_centres_that_moved_a_little_are_the_same_in_whatever_order() -> None:
    order = [2, 0, 3, 1]
    assert match(BEFORE, BEFORE[order] + 0.5) == dict(enumerate(order))


def test_a_centre_that_went_farther_than_to_its_neighbour_is_another() -> None:
    now = BEFORE.copy()
    now[1] = [30.0, 30.0]
    assert match(BEFORE, now) == {0: 0, 2: 2, 3: 3}


@pytest.mark.parametrize("clusters", [2, 3, 6])
def test_more_or_fewer_clusters_than_before(clusters: int) -> None:
    now = np.concatenate([BEFORE, [[50.0, 0.0], [0.0, 50.0]]])[:clusters]
    assert match(BEFORE, now) == {at: at for at in range(min(clusters, 4))}


def test_the_assignment_is_the_best_for_all_centres_together() -> None:
    before = np.array([[0.0], [4.0], [100.0]])
    # Each is nearest to the second of before.
    assert match(before, np.array([[2.5], [5.0], [100.0]])) == {0: 0, 1: 1, 2: 2}


def test_a_single_centre_is_always_the_same() -> None:
    assert match(np.zeros((1, 2)), np.full((1, 2), 1e6)) == {0: 0}


def test_centres_at_one_place_continue_each_other_and_one_of_them_alone_continues_one() -> None:
    before = BEFORE[[0, 1, 1, 1, 2, 3]]
    # What becomes of equal centres in another basis.
    now = before + np.random.default_rng(0).normal(scale=1e-7, size=before.shape)
    found = match(before, now)
    assert sorted(found) == sorted(found.values()) == list(range(6))
    assert {at: of for at, of in found.items() if at in (0, 4, 5)} == {0: 0, 4: 4, 5: 5}
    assert match(before, now[[0, 1, 4, 5]]).keys() == {0, 1, 2, 3}
    assert relative_shifts(before, now).max() < 1e-6
    assert match(np.ones((3, 2)), np.ones((3, 2))).keys() == {0, 1, 2}
    assert relative_shifts(np.zeros((3, 2)), np.zeros((3, 2))).tolist() == [0.0, 0.0, 0.0]


def test_names_stay_and_new_ones_were_never_given() -> None:
    assert names_after((0, 2, 5), named=7, continued={0: 1, 2: 0}, clusters=4) == (2, 7, 0, 8)


def test_shifts_are_shares_of_the_way_to_the_nearest_other_centre() -> None:
    moved = BEFORE + np.array([[1.0, 0.0], [0.0, 0.0], [0.0, 5.0], [0.0, 0.0]])
    np.testing.assert_allclose(relative_shifts(BEFORE, moved), [0.1, 0.0, 0.5, 0.0])


def test_another_basis_of_the_same_space_keeps_distances() -> None:
    rng = np.random.default_rng(0)
    v_gk = np.linalg.qr(rng.normal(size=(30, 4)))[0]
    rotation = np.linalg.qr(rng.normal(size=(4, 4)))[0]
    points = rng.normal(size=(5, 4))
    np.testing.assert_allclose(change_basis(points, v_gk, v_gk @ rotation), points @ rotation, atol=1e-12)
