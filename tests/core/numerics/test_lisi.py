from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import harmonypy
import numpy as np
import pytest

from tasks.core.numerics.block import Float64Array, IntArray, NumberArray
from tasks.core.numerics.fold import Blocks
from tasks.core.numerics.lisi import lisi, mixing
from tasks.core.numerics.sample import draw
from tests.memory import most_memory


def queries(cells: int, size: int, asked: int) -> Sequence[IntArray]:
    return draw(Blocks.cut(np.zeros(cells), size, 1).rows, asked, np.random.default_rng(1))


def index(cells: NumberArray, batches: IntArray, asked: int = 10**6, size: int = 150, workers: int = 1) -> Float64Array:
    of = queries(len(cells), size, asked)
    return lisi(Blocks.cut(cells, size, workers), Blocks.cut(batches, size, workers), of)


def mixed(cells: NumberArray, batches: IntArray, asked: int = 10**6, size: int = 150) -> float | None:
    of = queries(len(cells), size, asked)
    return mixing(Blocks.cut(cells, size, 2), Blocks.cut(batches, size, 2), of, len(np.unique(batches)))


def normal(cells: int, batches: int, columns: int = 5, apart: float = 0.0) -> tuple[Float64Array, IntArray]:
    rng = np.random.default_rng(0)
    codes = rng.integers(batches, size=cells)
    z_nk = rng.normal(size=(cells, columns))
    z_nk[:, 0] += apart * codes
    return z_nk, codes


@pytest.mark.parametrize("apart", [0.0, 1.0, 9.0])
def test_agrees_with_harmonypy(apart: float) -> None:
    cells, batches = normal(600, 3, apart=apart)
    theirs = harmonypy.compute_lisi(cells, {"plate": batches}, ["plate"])[:, 0]
    np.testing.assert_allclose(index(cells, batches), theirs, atol=2e-3)


def test_mixing_goes_from_0_to_1() -> None:
    cells, batches = normal(600, 3)
    found = mixed(cells, batches)
    assert found is not None
    assert 0.8 < found <= 1.0
    assert mixed(cells + 50.0 * batches[:, None], batches) == pytest.approx(0.0)
    assert mixed(cells, np.zeros(600, int)) is None


@pytest.mark.parametrize("asked", [40, 300, 3_000])
def test_neighbours_are_looked_for_among_all_cells_however_few_are_asked_for(asked: int) -> None:
    # A hundred cells of a batch lie together, so that of a sample of them the neighbours are of other batches.
    rng = np.random.default_rng(0)
    places = rng.normal(size=(120, 3)) * 20
    which = np.repeat(np.arange(120), 100)
    cells, batches = places[which] + 0.1 * rng.normal(size=(12_000, 3)), which % 3
    order = rng.permutation(12_000)
    assert mixed(cells[order], batches[order], asked, size=1_000) == pytest.approx(0.0, abs=1e-3)


def test_the_index_of_a_cell_is_the_same_whichever_cells_are_asked_for_and_however_they_are_cut() -> None:
    cells, batches = normal(2_000, 4, columns=7, apart=0.4)
    # Equal cells: of them some are neighbours, and it must be the same ones.
    cells[::3] = cells[0]
    every = index(cells, batches, size=2_000)
    assert index(cells, batches, size=130, workers=3).tobytes() == every.tobytes()
    of = queries(2_000, 130, 200)
    some = lisi(Blocks.cut(cells, 130, 1), Blocks.cut(batches, 130, 1), of)
    asked = np.concatenate([rows + 130 * at for at, rows in enumerate(of)])
    np.testing.assert_allclose(some, every[asked], rtol=1e-12)


def test_equal_and_few_cells_have_an_index() -> None:
    assert np.isfinite(index(np.zeros((200, 2)), np.arange(200) % 2)).all()
    np.testing.assert_allclose(index(np.zeros((1, 2)), np.zeros(1, int)), 1.0)
    assert np.isfinite(index(np.arange(4.0)[:, None], np.array([0, 1, 1, 0]), size=1)).all()


def test_memory_does_not_grow_with_the_cells() -> None:
    z_nk, codes_n = normal(1_000, 3)

    def most(times: int) -> int:
        cells: Blocks[Any] = Blocks(range(times), [""] * times, [1_000] * times, lambda _: z_nk.copy(), 1)
        with most_memory() as found:
            lisi(cells, replace(cells, read=lambda _: codes_n.copy()), draw(cells.rows, 200, np.random.default_rng(0)))
        return found.bytes

    most(2)
    assert most(300) < 1.7 * most(20)
