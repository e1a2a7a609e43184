import io

import numpy as np
import polars as pl
import pytest
import scipy.sparse as sp

from tasks.core.numerics.block import Block, decode_matrix, encode_matrix, in_blocks, narrow


@pytest.mark.parametrize("genes", [[0, 65_535], [0, 65_536], []])
def test_a_block_survives_its_file(genes: list[int]) -> None:
    values = np.arange(1, len(genes) + 1, dtype=np.float32)
    offsets = np.array([0, 0, len(genes), len(genes)], np.int32)
    block = Block.from_arrow(bytes(Block(offsets, np.array(genes, np.int64), values).to_arrow()))
    assert block.offsets.tolist() == offsets.tolist()
    assert block.genes.tolist() == genes
    assert block.values.tolist() == values.tolist()
    assert block.values.dtype == np.float32


def test_polars_opens_a_block_with_a_row_a_cell() -> None:
    block = Block(np.array([0, 2, 3], np.int32), np.array([5, 7, 1]), np.array([1, 2, 3], np.uint16))
    frame = pl.read_ipc(io.BytesIO(block.to_arrow()))
    assert frame.to_dict(as_series=False) == {"genes": [[5, 7], [1]], "values": [[1, 2], [3]]}


def test_a_matrix_survives_its_file() -> None:
    matrix = np.arange(6.0).reshape(2, 3)
    assert np.array_equal(decode_matrix(bytes(encode_matrix(matrix))), matrix)


def test_narrow_takes_the_fewest_bytes_that_hold_all() -> None:
    assert [narrow(np.array(numbers)).dtype for numbers in ([], [65_535], [65_536])] == [
        np.uint16,
        np.uint16,
        np.uint32,
    ]


@pytest.mark.parametrize("size", [1, 2, 3, 5, 6, 7])
def test_blocks_are_joined_and_cut_without_a_cell_lost(size: int) -> None:
    matrix = np.random.default_rng(0).integers(0, 3, (6, 4))
    parts = [sp.csr_array(part) for part in np.split(matrix, [0, 1, 4])]
    blocks = [Block(part.indptr, part.indices, part.data) for part in parts]
    made = list(in_blocks(blocks, size))
    assert [block.cells for block in made[:-1]] == [size] * (len(made) - 1)
    assert np.array_equal(np.concatenate([block.matrix(4).toarray() for block in made if block.cells]), matrix)
