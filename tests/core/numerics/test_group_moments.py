from functools import reduce
from operator import add

import numpy as np
import pytest

from tasks.core.numerics.block import Block
from tasks.core.numerics.group_moments import GroupMoments, counts_per_million
from tests.core.numerics.batches import BatchedCells, pieces


@pytest.fixture
def cells() -> BatchedCells:
    return BatchedCells.simulated(cells=120, genes=50)


def group(cells: BatchedCells, block: Block, size: int = 10**6) -> GroupMoments:
    names, codes = np.unique(cells.batches, return_inverse=True)
    return reduce(
        add,
        (GroupMoments.of(part, of_part, names.tolist(), cells.genes) for part, of_part in pieces(block, codes, size)),
    )


def assert_equal(ours: GroupMoments, others: GroupMoments) -> None:
    assert ours.batches.keys() == others.batches.keys()
    for name, moments in ours.batches.items():
        assert moments.cells == others.batches[name].cells
        for field in ("sums", "squares", "expressing"):
            np.testing.assert_array_equal(getattr(moments, field), getattr(others.batches[name], field))


def test_are_those_of_each_batch_s_dense_matrix(cells: BatchedCells) -> None:
    moments = group(cells, cells.raw)
    for name, batch in moments.batches.items():
        dense = cells.counts.toarray()[np.array(cells.batches) == name].astype(np.float64)
        assert batch.cells == len(dense)
        np.testing.assert_allclose(batch.means, dense.mean(axis=0))
        np.testing.assert_allclose(batch.sample_variances, dense.var(axis=0, ddof=1), atol=1e-12)
        np.testing.assert_array_equal(batch.expressing, (dense > 0).sum(axis=0))
    dense = cells.counts.toarray().astype(np.float64)
    np.testing.assert_allclose(moments.whole.sample_variances, dense.var(axis=0, ddof=1))


@pytest.mark.parametrize("size", [1, 7, 119])
def test_of_counts_are_the_same_to_the_last_bit_however_cells_are_cut(cells: BatchedCells, size: int) -> None:
    assert_equal(group(cells, cells.raw, size), group(cells, cells.raw))


def test_large_counts_do_not_overflow() -> None:
    block = Block(np.array([0, 1, 2]), np.array([0, 0]), np.array([60_001, 50_001], np.uint16))
    moments = GroupMoments.of(block, np.zeros(2, np.int64), [""], 1).whole
    assert (moments.sums[0], moments.squares[0]) == (110_002, 60_001**2 + 50_001**2)


def test_counts_per_million_are_undone_logarithms(cells: BatchedCells) -> None:
    cpm = counts_per_million(cells.normalized)
    counts = cells.counts.toarray()
    np.testing.assert_allclose(cpm.matrix(cells.genes).toarray(), 1e6 * counts / counts.sum(axis=1)[:, None], rtol=1e-5)


def test_a_batch_without_cells_takes_no_room(cells: BatchedCells) -> None:
    of_one = GroupMoments.of(cells.raw, np.full(120, 1), ["absent", "present", "absent too"], cells.genes)
    assert list(of_one.batches) == ["present"]


def test_no_cells_have_no_batches(cells: BatchedCells) -> None:
    nothing = GroupMoments.of(cells.raw.cut(0, 0), np.zeros(0, np.int64), ["absent"], cells.genes)
    assert not nothing.batches
    assert_equal(nothing + group(cells, cells.raw), group(cells, cells.raw))


def test_genes_can_be_renumbered(cells: BatchedCells) -> None:
    columns = np.random.default_rng(0).permutation(cells.genes)
    raw = cells.raw
    renamed = Block(raw.offsets, np.argsort(columns)[raw.genes], raw.values)
    assert_equal(group(cells, cells.raw).renumbered(columns), group(cells, renamed))


def test_above_bounds_are_the_moments_of_large_values_alone(cells: BatchedCells) -> None:
    names, codes = np.unique(cells.batches, return_inverse=True)
    bounds = {name: np.full(cells.genes, 3.0 + at) for at, name in enumerate(names)}
    above = GroupMoments.above(cells.raw, codes, names.tolist(), bounds)
    limits = np.array([bounds[name][0] for name in cells.batches])[:, None]
    dense = cells.counts.toarray().astype(np.uint16)
    large = np.where(dense > limits, dense, 0)
    kept = BatchedCells(type(cells.counts)(large), cells.batches)
    assert_equal(above, group(kept, kept.raw))
