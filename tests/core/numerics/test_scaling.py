import numpy as np
import pytest

from tasks.core.numerics.block import Block
from tasks.core.numerics.moments import Moments
from tasks.core.numerics.scaling import Scaling, keep_genes
from tests.core.numerics.batches import BatchedCells, scanpy


@pytest.fixture
def block() -> Block:
    return BatchedCells.simulated(cells=300, genes=60).normalized


def dense(block: Block, genes: int) -> np.ndarray:
    return np.asarray(block.matrix(genes).toarray().astype(np.float64))


def test_is_scanpy_s_but_for_a_constant_of_each_gene(block: Block) -> None:
    # Rare genes are clipped; one is never seen, and one the same in all cells.
    block = Block(
        np.arange(301) + block.offsets,
        np.insert(block.genes, block.offsets[:-1], 61),
        np.insert(block.values, block.offsets[:-1], 2.0),
    )
    with scanpy() as sc:
        theirs = sc.pp.scale(dense(block, 62), max_value=10)
    scaling = Scaling.of(Moments.of(block, 62))
    ours = scaling.apply(block)
    assert theirs.max() == 10
    assert ours.values.dtype == np.float32
    np.testing.assert_allclose(dense(ours, 62) + scaling.shifts, theirs, atol=1e-5)
    np.testing.assert_array_equal(ours.offsets, block.offsets)


def test_genes_are_kept_in_the_columns_given(block: Block) -> None:
    kept = np.array([40, 3, 17])
    columns = np.full(60, -1)
    columns[kept] = np.arange(3)
    np.testing.assert_array_equal(dense(keep_genes(block, columns), 3), dense(block, 60)[:, kept])


def test_no_genes_leave_empty_cells(block: Block) -> None:
    assert keep_genes(block, np.full(60, -1)).offsets.tolist() == [0] * 301
