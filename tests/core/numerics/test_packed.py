"""Packed counts, read back by plain numpy from the format's description alone."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.base.errors import NumericsError
from tasks.core.numerics.block import Block
from tasks.core.numerics.packed import pack, unpack

GENES = 70_000
COUNTS = st.sampled_from([1, 2, 254, 255, 256, 65_535, 65_536, 2**33])
GENE = st.sampled_from([0, 1, 254, 255, 256, 509, 510, 511, 65_535, 65_536, GENES - 1])
cells = st.lists(st.dictionaries(GENE, COUNTS, max_size=8), max_size=6)


def block_of(counted: list[dict[int, int]]) -> Block:
    offsets = np.concatenate([[0], np.cumsum([len(cell) for cell in counted])])
    genes = [gene for cell in counted for gene in sorted(cell)]
    counts = [cell[gene] for cell in counted for gene in sorted(cell)]
    return Block(offsets.astype(np.int32), np.array(genes, np.uint32), np.array(counts, np.uint64))


def by_the_book(data: memoryview) -> list[dict[int, int]]:
    """Read packed counts as their description says."""
    found = []
    for row in pa.ipc.open_file(pa.BufferReader(data)).read_all().to_pylist():
        gene, cell, large = 0, {}, iter(row["large"])
        for gap, count in zip(row["gaps"], row["counts"], strict=True):
            gene += gap
            if count:
                cell[gene] = next(large) if count == 255 else count
        assert sum(cell.values()) == row["total"]
        assert next(large, None) is None
        found.append(cell)
    return found


@given(cells)
def test_what_is_packed_is_read_as_described_and_comes_back(counted: list[dict[int, int]]) -> None:
    block = block_of(counted)
    data = pack(block, GENES)
    assert by_the_book(data) == counted
    back = unpack(bytes(data))
    for mine, theirs in zip(vars(block).values(), vars(back).values(), strict=True):
        np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize(
    ("genes", "counts"), [([3, 3], [1, 1]), ([4, 3], [1, 1]), ([3, 4], [1, 0])], ids=["twice", "descending", "zero"]
)
def test_what_is_no_row_of_counts_is_not_packed(genes: list[int], counts: list[int]) -> None:
    with pytest.raises(NumericsError, match="do not ascend, or counts below 1"):
        pack(Block(np.array([0, 2]), np.array(genes), np.array(counts)), 5)


def test_rows_that_do_not_fit_their_values_are_not_packed() -> None:
    with pytest.raises(NumericsError, match="rows that do not fit its 1 values"):
        pack(Block(np.array([0, 9]), np.array([3]), np.array([1])), 5)


def table_of(**columns: pa.Array) -> pa.Table:
    made = {
        "gaps": pa.array([[1, 2]], pa.list_(pa.uint8())),
        "counts": pa.array([[7, 9]], pa.list_(pa.uint8())),
        "large": pa.array([[]], pa.list_(pa.int64())),
        "total": pa.array([16]),
    }
    return pa.table(made | columns).replace_schema_metadata({"genes": "4"})


def written(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def test_what_others_wrote_is_looked_through() -> None:
    assert unpack(written(table_of())).genes.tolist() == [1, 3]
    for table, told in (
        (table_of(gaps=pa.array([[1, 200]], pa.list_(pa.uint8()))), "gene 201, of which there are 4"),
        (table_of(counts=pa.array([[7]], pa.list_(pa.uint8()))), "do not fit each other"),
        (table_of(counts=pa.array([[7, 255]], pa.list_(pa.uint8()))), "do not fit each other"),
        (table_of(gaps=pa.array([[1, 2]], pa.list_(pa.int64()))), "do not fit each other"),
        (table_of().drop_columns("large"), "is no block of counts"),
        (table_of().replace_schema_metadata(None), "is no block of counts"),
    ):
        with pytest.raises(NumericsError, match=told):
            unpack(written(table))
    # Offsets that reach past the lists' elements.
    good, far = (np.array([0, stop], np.int32).tobytes() for stop in (2, 99))
    for data in (b"nothing of the kind", written(table_of()).replace(good, far)):
        with pytest.raises(NumericsError, match="is no block of counts"):
            unpack(data)
