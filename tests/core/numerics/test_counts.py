import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.base.errors import NumericsError
from tasks.core.numerics.block import Block
from tasks.core.numerics.counts import build_counts

COLUMN_OF_TOKEN = np.array([-1, -1, -1, 2, 0, 1, 3], np.int32)
cells_of_pairs = st.lists(st.lists(st.tuples(st.integers(3, 6), st.integers(0, 70_000)), max_size=8), max_size=5)


def block_of(cells: list[list[tuple[int, int]]]) -> Block:
    pairs = [pair for cell in cells for pair in cell]
    offsets = np.concatenate([[0], np.cumsum([len(cell) for cell in cells])]).astype(np.int32)
    tokens = np.array([token for token, _ in pairs], np.uint16)
    return Block(offsets, tokens, np.array([count for _, count in pairs], np.uint32))


@given(cells_of_pairs)
def test_counts_are_those_of_a_plain_loop(cells: list[list[tuple[int, int]]]) -> None:
    expected = np.zeros((len(cells), 4), np.int64)
    for row, cell in enumerate(cells):
        for token, count in cell:
            expected[row, COLUMN_OF_TOKEN[token]] += count
    block, repeated = build_counts(block_of(cells), COLUMN_OF_TOKEN)
    assert np.array_equal(block.matrix(4).toarray(), expected)
    assert repeated == sum(len(cell) - len({token for token, _ in cell}) for cell in cells)
    assert (block.values > 0).all()
    assert sp.csr_array(block.matrix(4)).has_canonical_format


def test_tokens_that_are_of_no_gene_or_in_rows_that_do_not_fit_are_refused() -> None:
    with pytest.raises(NumericsError, match="tokens that are of no gene"):
        build_counts(block_of([[(1, 5)]]), COLUMN_OF_TOKEN)
    with pytest.raises(NumericsError, match="rows that do not fit its 1 values"):
        build_counts(Block(np.array([0, 9]), np.array([3]), np.array([1], np.uint16)), COLUMN_OF_TOKEN)


def test_sums_of_small_counts_do_not_overflow() -> None:
    doubled = block_of([[(3, 65_535), (3, 65_535)]])
    narrow = Block(doubled.offsets, doubled.genes, doubled.values.astype(np.uint16))
    assert build_counts(narrow, COLUMN_OF_TOKEN)[0].values.tolist() == [131_070]


def test_repeated_counts_that_outgrow_32_bits_are_summed_whole() -> None:
    tokens = Block(np.array([0, 3]), np.array([1, 0, 1]), np.array([2**32 - 1, 7, 2], np.uint32))
    block, repeated = build_counts(tokens, np.array([0, 1], np.int32))
    assert (block.genes.tolist(), block.values.tolist(), repeated) == ([0, 1], [7, 2**32 + 1], 1)
