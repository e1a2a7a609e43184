import numpy as np
import pytest
from scipy.stats.contingency import association

from tasks.core.numerics.association import cramers_v


def test_it_is_1_for_the_same_and_0_for_chance() -> None:
    rng = np.random.default_rng(0)
    by_chance = np.zeros((14, 379), np.int64)
    np.add.at(by_chance, (rng.integers(0, 14, 5_000), rng.integers(0, 379, 5_000)), 1)
    assert cramers_v(by_chance) < 0.05
    assert association(by_chance) > 0.2
    assert cramers_v(1000 * np.eye(5, 7, dtype=int)) == pytest.approx(1.0)


def test_with_many_cells_it_is_what_scipy_says() -> None:
    counts = np.random.default_rng(1).integers(10_000, 90_000, (4, 6))
    assert cramers_v(counts) == pytest.approx(association(counts), rel=1e-3)


@pytest.mark.parametrize("counts", [np.zeros((3, 3)), [[5, 9]], [[1]], [[5, 0], [9, 0]], [[1, 0], [0, 0]]])
def test_of_one_value_nothing_is_known(counts: list[list[int]]) -> None:
    assert cramers_v(np.array(counts)) == 0.0
