"""The compiled products and sums, held to plain numpy in float64."""

from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

from tasks.core.base.errors import NumericsError
from tasks.core.numerics import kernels
from tasks.core.numerics.block import Block, NumberArray
from tasks.core.numerics.kernels import LANES, compiled, in_slabs, look_up, project, project_back, tally


def _random(cells: int, genes: int, rng: np.random.Generator, share: float = 0.2) -> tuple[Block, NumberArray]:
    """Give a block in which every third cell is empty, and the same as a dense matrix."""
    x_ng = rng.standard_normal((cells, genes)) * (rng.random((cells, genes)) < share)
    x_ng[::3] = 0
    rows = sp.csr_array(x_ng.astype(np.float32))
    return Block(rows.indptr, rows.indices, rows.data), rows.toarray().astype(np.float64)


@pytest.mark.parametrize("width", [1, 5, 16, 17, 50])
@pytest.mark.parametrize(("cells", "genes"), [(1, 1), (40, 1), (1, 70), (60, 333), (20, 70_000)])
def test_products_are_those_of_dense_matrices(cells: int, genes: int, width: int) -> None:
    rng = np.random.default_rng([cells, genes, width])
    block, x_ng = _random(cells, genes, rng)
    q_gl, shift_l = rng.standard_normal((genes, width)).astype(np.float32), rng.standard_normal(width)
    slabs = in_slabs(q_gl)
    wanted_nl = x_ng @ q_gl
    np.testing.assert_allclose(project(block, slabs)[:, :width], wanted_nl, atol=1e-5 * np.abs(wanted_nl).max())
    total_gl, sums_l = project_back(block, slabs, shift_l)
    for found, wanted in (
        (total_gl[:, :width], x_ng.T @ (wanted_nl - shift_l)),
        (sums_l[:width], (wanted_nl - shift_l).sum(axis=0)),
    ):
        np.testing.assert_allclose(found, wanted, atol=1e-5 * np.abs(wanted).max())
    # What fills up the last slab is nothing.
    assert not total_gl[:, width:].any()
    assert len(slabs) * LANES == total_gl.shape[1]


def test_a_cell_gets_the_same_bytes_whatever_block_it_is_in() -> None:
    rng = np.random.default_rng(7)
    block, _ = _random(50, 400, rng)
    slabs = in_slabs(rng.standard_normal((400, 20)))
    apart = [project(block.cut(at, at + 1), slabs) for at in range(50)]
    np.testing.assert_array_equal(np.concatenate(apart), project(block, slabs))


@pytest.mark.parametrize("kind", [np.uint16, np.uint32, np.float32, np.float64])
def test_sums_by_group_are_those_of_a_loop(kind: type) -> None:
    rng = np.random.default_rng(3)
    genes, cells, groups = 30, 25, 4
    x_ng: NumberArray = (rng.integers(0, 60_000, (cells, genes)) * (rng.random((cells, genes)) < 0.3)).astype(kind)
    rows, groups_n = sp.csr_array(x_ng), rng.integers(0, groups - 1, cells)
    sums, squares, expressing = tally(Block(rows.indptr, rows.indices, rows.data), groups_n, groups, genes)
    for group in range(groups):
        of = x_ng[groups_n == group]
        squared = of * of if np.issubdtype(kind, np.floating) else of.astype(np.int64) ** 2
        np.testing.assert_array_equal(sums[group], of.sum(axis=0, dtype=np.float64))
        np.testing.assert_array_equal(squares[group], squared.sum(axis=0, dtype=np.float64))
        np.testing.assert_array_equal(expressing[group], (of > 0).sum(axis=0))


@pytest.mark.parametrize(
    ("block", "told"),
    [
        (Block(np.array([0, 1]), np.array([5]), np.ones(1, np.float32)), "genes 0 to 5, of which there are 5"),
        (Block(np.array([0, 1]), np.array([-1]), np.ones(1, np.float32)), "genes -1 to 0, of which there are 5"),
        (Block(np.array([0, 3]), np.array([1]), np.ones(1, np.float32)), "rows that do not fit its 1 values"),
        (Block(np.array([0, 2, 1]), np.array([1]), np.ones(1, np.float32)), "rows that do not fit its 1 values"),
        (Block(np.array([0, 2]), np.array([1, 2]), np.ones(1, np.float32)), "rows that do not fit its 1 values"),
    ],
)
def test_a_block_that_would_reach_past_the_panel_is_refused(block: Block, told: str) -> None:
    slabs = in_slabs(np.ones((5, 3)))
    for call in (
        lambda: project(block, slabs),
        lambda: project_back(block, slabs, np.zeros(3)),
        lambda: tally(block, np.zeros(block.cells, np.int64), 1, 5),
    ):
        with pytest.raises(NumericsError, match=told):
            call()


def test_a_table_is_looked_up_by_cell_and_count() -> None:
    block = Block(np.array([0, 2, 2, 3]), np.array([0, 4, 1]), np.array([1, 9, 2], np.uint16))
    assert look_up(block, np.arange(9, dtype=np.float32).reshape(3, 3)).tolist() == [1.0, 2.0, 8.0]
    with pytest.raises(NumericsError, match="has 3 cells, and the table 2"):
        look_up(block, np.zeros((2, 3), np.float32))


def test_where_nothing_can_be_cached_all_is_compiled_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    really: Any = vars(kernels)["njit"]

    def njit(**options: object) -> object:
        if options.pop("cache", False):
            raise RuntimeError("cannot cache function: no locator available")
        return really(**options)

    monkeypatch.setattr(kernels, "njit", njit)

    def double(number: int) -> int:
        return 2 * number

    assert compiled(double)(21) == 42
