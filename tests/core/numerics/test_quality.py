import numpy as np
import pytest

from tasks.core.numerics.block import NumberArray
from tasks.core.numerics.fold import Blocks
from tasks.core.numerics.quality import histograms
from tests.memory import most_memory


@pytest.mark.parametrize("size", [7, 1_000])
def test_histograms_are_numpy_s_of_all_values(size: int) -> None:
    rng = np.random.default_rng(0)
    values = np.column_stack([rng.integers(9_000, size=999), rng.random(999) * 30, np.full(999, 4.0)])
    for column, (counts, edges) in zip(values.T, histograms(Blocks.cut(values, size, 2), 40), strict=True):
        expected, of_all = np.histogram(column, bins=40)
        np.testing.assert_array_equal(counts, expected)
        np.testing.assert_array_equal(edges, of_all)


def test_histograms_of_more_cells_take_no_more_memory_and_a_block_may_be_empty() -> None:
    part = np.random.default_rng(0).random((1_000, 3))

    def most(times: int) -> int:
        rows = [1_000] * times + [0]
        values: Blocks[NumberArray] = Blocks(rows, [""] * len(rows), rows, lambda row: part[:row].copy(), 2)
        with most_memory() as found:
            counts = [int(of.sum()) for of, _ in histograms(values, 40)]
        assert counts == [1_000 * times] * 3
        return found.bytes

    most(1)
    assert most(300) < 2 * most(30)
