import numpy as np
import pytest

from tasks.core.base.errors import DataError
from tasks.core.dataset.cells import MAX_COUNT, read_cells
from tests.small_dataset import Cell, cell, table_of

KNOWN = np.array([False, False, False, True, True, True, True])
GOOD = cell({3: 2.0, 5: 1.0})


def read(*cells: Cell) -> tuple[list[int], list[int], list[int]]:
    block = read_cells(table_of(cells), KNOWN, "data/train-0", range(100, 100 + len(cells)))
    return block.offsets.tolist(), block.genes.tolist(), block.values.tolist()


def test_the_marker_is_stripped_and_counts_are_exact() -> None:
    assert read(GOOD, cell({4: 70_000.0})) == ([0, 2, 3], [3, 5, 4], [2, 1, 70_000])


def test_cells_without_counts_are_kept() -> None:
    assert read(cell({}), GOOD, Cell([], []), cell({})) == ([0, 0, 2, 2, 2], [3, 5], [2, 1])


def test_a_slice_of_a_table_is_read_as_its_rows() -> None:
    table = table_of([cell({6: 9.0}), GOOD, cell({4: 1.0})]).slice(1, 2)
    block = read_cells(table, KNOWN, "shard", range(2))
    assert (block.offsets.tolist(), block.genes.tolist()) == ([0, 2, 3], [3, 5, 4])


@pytest.mark.parametrize(
    ("bad", "what"),
    [
        (Cell([1, 3], [-2.0]), "differ in length"),
        (Cell([3, 4], [1.0, 1.0]), "does not begin with the marker"),
        (Cell([1, 3], [0.0, 1.0]), "does not begin with the marker"),
        (cell({7: 1.0}), "a token outside the vocabulary: 7"),
        (cell({-1: 1.0}), "a token outside the vocabulary: -1"),
        (cell({2: 1.0}), "a token outside the vocabulary: 2"),
        (cell({10**12: 1.0}), "a token outside the vocabulary: 1000000000000"),
        (cell({3: 1.0, 1: -2.0}), "a token outside the vocabulary: 1"),
        (cell({3: -1.0}), f"a count that is not from 0 to {MAX_COUNT:,}: -1"),
        (cell({3: float("nan")}), f"a count that is not from 0 to {MAX_COUNT:,}: nan"),
        (cell({3: float("inf")}), f"a count that is not from 0 to {MAX_COUNT:,}: inf"),
        (cell({3: 2.0**25}), f"a count that is not from 0 to {MAX_COUNT:,}"),
        (cell({3: 1.0, 4: 1.5}), "a count that is not whole: 1.5"),
        (Cell([1, None], [-2.0, 1.0]), "its 'genes' holds a null"),
        (Cell([1, 3], [-2.0, None]), "its 'expressions' holds a null"),
    ],
)
def test_bad_cells_are_named_by_shard_and_row(bad: Cell, what: str) -> None:
    with pytest.raises(DataError) as error:
        read(GOOD, cell({}), bad, GOOD)
    assert str(error.value).startswith("shard data/train-0, row 102: ")
    assert what in str(error.value)
