import io

import numpy as np
import polars as pl
import pytest
import scipy.sparse as sp

from tasks.core.numerics.block import Block, as_offsets, decode_matrix, encode_matrix, in_blocks, narrow, offsets_of
from tasks.core.numerics.scaling import keep_genes


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
    given: tuple[list[int], ...] = ([], [255], [65_535], [65_536], [2**32 - 1], [2**32])
    expected = [np.uint16, np.uint16, np.uint16, np.uint32, np.uint32, np.uint64]
    assert [narrow(np.array(numbers, np.int64)).dtype for numbers in given] == expected
    assert narrow(np.array([2**32, 1])).tolist() == [2**32, 1]


def test_a_matrix_of_more_values_than_32_bits_count_has_its_pointers_whole() -> None:
    values = 2**31 + 5
    # All the same one, so that it takes no memory.
    block = Block(np.array([0, values]), np.broadcast_to(np.int64(0), values), np.broadcast_to(np.float32(1), values))
    assert block.matrix(3).indptr.tolist() == [0, values]
    assert block.matrix(3).indices.base is block.genes.base


@pytest.mark.parametrize("longest", [2**31 - 1, 2**31])
def test_row_pointers_are_as_long_as_they_must_be(longest: int) -> None:
    kind = np.int32 if longest < 2**31 else np.int64
    offsets = offsets_of(np.array([longest - 1, 0, 1], np.int32))
    assert offsets.tolist() == [0, longest - 1, longest - 1, longest]
    assert offsets.dtype == as_offsets(np.array([0, longest])).dtype == kind


def test_long_blocks_are_cut_joined_and_kept_like_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = np.random.default_rng(0).integers(0, 3, (6, 4))
    whole = sp.csr_array(matrix)
    block = Block(whole.indptr, whole.indices, whole.data)
    monkeypatch.setattr("tasks.core.numerics.block._MOST_SHORT", 3)
    taken = Block.join([block.cut(0, 2), block.take(np.array([2, 3, 4, 5]))])
    kept = keep_genes(Block.from_arrow(bytes(taken.to_arrow())), np.array([0, 1, 2, -1]))
    assert taken.offsets.dtype == kept.offsets.dtype == np.int64
    assert np.array_equal(kept.matrix(4).toarray()[:, :3], matrix[:, :3])
    frame = pl.read_ipc(io.BytesIO(taken.to_arrow()))
    assert frame["values"].list.sum().to_list() == matrix.sum(axis=1).tolist()


@pytest.mark.parametrize("size", [1, 2, 3, 5, 6, 7])
def test_blocks_are_joined_and_cut_without_a_cell_lost(size: int) -> None:
    matrix = np.random.default_rng(0).integers(0, 3, (6, 4))
    parts = [sp.csr_array(part) for part in np.split(matrix, [0, 1, 4])]
    blocks = [Block(part.indptr, part.indices, part.data) for part in parts]
    made = list(in_blocks(blocks, size))
    assert [block.cells for block in made[:-1]] == [size] * (len(made) - 1)
    assert np.array_equal(np.concatenate([block.matrix(4).toarray() for block in made if block.cells]), matrix)
