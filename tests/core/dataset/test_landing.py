"""What counts as bad data, and what is only badly read: the one is kept, the other is looked at again."""

import errno
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tasks.core.base.errors import CorruptObjectError, DataError, MemoryShortError
from tasks.core.base.settings import Settings
from tasks.core.dataset import reading
from tasks.core.dataset.landing import land_cells
from tasks.core.dataset.partition_steps import build_counts, order_genes
from tasks.core.dataset.plan import make_plan
from tasks.core.dataset.shard import OpenShard
from tasks.core.references.cells import Cells, Plan
from tasks.core.storage.store import store_of
from tests.small_dataset import cell, gene_table, table_of, write_dataset

Batches = Callable[[OpenShard, Sequence[int], Sequence[str]], Iterator[pa.Table]]
REALLY: Batches = OpenShard.batches
# Rows that are decoded at a time, and more than that.
ROWS, CELLS = 1_000, 2_500
UNREADABLE = OSError("Corrupt snappy compressed data.")


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """One shard of 2,500 cells, read in three batches."""
    cells = [cell({3: 1.0, 4 + at % 5: 2.0}, number=at) for at in range(CELLS)]
    return write_dataset(tmp_path / "dataset", [table_of(cells)], gene_table(10), group_rows=500)


def settings_for(dataset: Path, policy: str, **given: object) -> Settings:
    asked = {"dataset": str(dataset), "store": str(dataset.parent / "store"), "samples": "all", "on_bad_data": policy}
    return Settings.model_validate(asked | given)


def land(dataset: Path, policy: str, **given: object) -> tuple[Plan, Cells]:
    settings = settings_for(dataset, policy, **given)
    plan = make_plan(settings)
    (part,) = plan.partitions
    return plan, land_cells(part, plan.vocabulary, settings).result


class Reading:
    """Reads cells; the first so many times the second batch goes wrong, and is the last if it stops."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, wrong: Any, times: int, *, stops: bool = False) -> None:
        self.wrong, self.times, self.stops = wrong, times, stops
        monkeypatch.setattr(OpenShard, "batches", lambda *given: self.read(*given))  # noqa: PLW0108  (a method gets the shard)

    def read(self, shard: OpenShard, groups: Sequence[int], columns: Sequence[str]) -> Iterator[pa.Table]:
        goes_wrong = "genes" in columns and self.times > 0
        self.times -= goes_wrong
        for at, table in enumerate(REALLY(shard, groups, columns)):
            yield self.harm(table) if goes_wrong and at == 1 else table
            if goes_wrong and at == 1 and self.stops:
                raise UNREADABLE

    def harm(self, table: pa.Table) -> pa.Table:
        if isinstance(self.wrong, Exception):
            raise self.wrong
        tokens = table["genes"].combine_chunks()
        values = tokens.values.to_numpy().copy()
        values[tokens.offsets.to_numpy()[[5, 7]] + 1] = 9_999
        return table.set_column(0, "genes", pa.ListArray.from_arrays(tokens.offsets, pa.array(values)))


ONCE_BAD = {"pages": UNREADABLE, "arrow": pa.ArrowInvalid("Unexpected end of stream"), "tokens": None}


@pytest.mark.parametrize("policy", ["fail", "skip"])
@pytest.mark.parametrize("wrong", ONCE_BAD)
def test_what_is_bad_once_is_read_again(
    dataset: Path, monkeypatch: pytest.MonkeyPatch, wrong: str, policy: str
) -> None:
    reading = Reading(monkeypatch, ONCE_BAD[wrong], times=1)
    _, cells = land(dataset, policy)
    assert (cells.cells, cells.skipped) == (CELLS, ())
    assert reading.times == 0


def test_what_could_not_be_read_is_skipped_in_that_run_alone(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as during:
        Reading(during, UNREADABLE, times=100)
        plan, part = land(dataset, "skip")
        assert part.cells == ROWS
        assert [(bad.row, bad.rows) for bad in part.skipped] == [(ROWS, CELLS - ROWS)]
        assert "Corrupt snappy" in part.skipped[0].reason
        assert land(dataset, "skip")[1] == part
        with pytest.raises(DataError, match="Corrupt snappy"):
            land(dataset, "fail")
    for policy in ("skip", "fail"):
        whole = land(dataset, policy)[1]
        assert (whole.cells, whole.skipped) == (CELLS, ())
    # What is made of the cells that could be read is not what is made of all.
    store = store_of(settings_for(dataset, "skip"))
    order = order_genes(store, whole, plan.vocabulary).result
    assert build_counts(store, part, order, plan.vocabulary).result.cells == ROWS
    assert build_counts(store, whole, order, plan.vocabulary).result.cells == CELLS


def test_what_breaks_the_layout_is_kept_for_those_that_skip(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as during:
        Reading(during, None, times=100)
        plan, part = land(dataset, "skip")
    assert part.cells == CELLS - 2
    assert [(bad.row, bad.rows) for bad in part.skipped] == [(ROWS + 5, 1), (ROWS + 7, 1)]
    assert land(dataset, "skip")[1] == part
    # Those that do not see for themselves.
    whole = land(dataset, "fail")[1]
    assert (whole.cells, whole.skipped) == (CELLS, ())
    assert land(dataset, "skip")[1] == whole
    store = store_of(settings_for(dataset, "skip"))
    order = order_genes(store, whole, plan.vocabulary).result
    assert build_counts(store, whole, order, plan.vocabulary).result.cells == CELLS


def test_tokens_go_once_the_matrix_is_built_and_are_streamed_again_for_another(dataset: Path) -> None:
    plan, part = land(dataset, "fail")
    store, vocabulary = store_of(settings_for(dataset, "fail")), plan.vocabulary
    order = order_genes(store, part, vocabulary).result
    made = build_counts(store, part, order, vocabulary).result
    assert not list(store.files.walk("tokens"))
    assert land(dataset, "fail")[1] == part
    assert build_counts(store, part, order, vocabulary).cached
    other = order_genes(store, None, vocabulary).result
    with pytest.raises(CorruptObjectError, match=r"genes in another order, and so are its tokens"):
        build_counts(store, part, other, vocabulary)
    again = land(dataset, "fail")[1]
    assert again == part
    assert build_counts(store, again, other, vocabulary).result.nonzeros == made.nonzeros


def test_cells_of_which_others_were_left_out_are_never_taken_for_each_other(
    dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = [land(dataset, "skip")[1].key]
    for wrong, stops in ((None, False), (None, True), (UNREADABLE, False)):
        store = f"store-{wrong}-{stops}"
        with monkeypatch.context() as during:
            Reading(during, wrong, times=100, stops=stops)
            keys.append(land(dataset, "skip", store=str(dataset.parent / store))[1].key)
    assert len(set(keys)) == 4


SHORT = {
    "python": MemoryError("Unable to allocate 2.6 GiB"),
    "arrow": pa.ArrowMemoryError("malloc of size 272629760 failed"),
    "told": OSError("realloc of size 1048576 failed"),
    "codec": OSError("ZSTD decompression failed: Allocation error : not enough memory"),
    "system": OSError(errno.ENOMEM, "Cannot allocate memory"),
    "threads": RuntimeError("can't start new thread"),
    "arrow's": pa.ArrowException("Unknown error: Failed to launch worker thread: Resource temporarily unavailable"),
    "processes": BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"),
}


@pytest.mark.parametrize("policy", ["fail", "skip"])
@pytest.mark.parametrize("name", SHORT)
def test_want_of_memory_is_no_bad_data(dataset: Path, monkeypatch: pytest.MonkeyPatch, name: str, policy: str) -> None:
    with monkeypatch.context() as during:
        Reading(during, SHORT[name], times=100)
        with pytest.raises(MemoryShortError, match=r"for want of (memory|threads) .* fewer --workers") as told:
            land(dataset, policy)
        assert "\n" not in str(told.value)
    assert land(dataset, policy)[1].cells == CELLS


@pytest.mark.parametrize("name", SHORT)
def test_want_of_memory_at_the_plan_leaves_nothing_out(
    dataset: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def fails(*_: object) -> Iterator[pa.Table]:
        raise SHORT[name]

    monkeypatch.setattr(OpenShard, "batches", fails)
    with pytest.raises(MemoryShortError, match=r"for want of (memory|threads)"):
        make_plan(settings_for(dataset, "skip", where="number > 3"))


@pytest.mark.parametrize("policy", ["fail", "skip"])
def test_pages_that_a_codec_calls_bad_for_want_of_memory_are_good(
    dataset: Path, monkeypatch: pytest.MonkeyPatch, policy: str
) -> None:
    """Brotli knows one reason alone why it cannot go on."""
    with monkeypatch.context() as during:
        Reading(during, UNREADABLE, times=100)
        during.setattr(reading, "is_to_be_had", lambda _: False)
        with pytest.raises(MemoryShortError, match="for want of memory"):
            land(dataset, policy)
    assert land(dataset, policy)[1].cells == CELLS


@pytest.mark.parametrize("size", [0, 2**27])
def test_what_cannot_be_decoded_is_bad_where_there_is_room_for_it(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(reading, "is_to_be_had", lambda asked: asked < 2**27)
    with pytest.raises(MemoryError if size else OSError), reading.decoding(size):
        raise UNREADABLE


def test_a_footer_that_is_bad_once_is_read_again(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    really, times = OpenShard.__init__, [0]

    def opens(*given: Any) -> None:
        times[0] += 1
        if times[0] == 1:
            raise pa.ArrowInvalid("Parquet magic bytes not found in footer.")
        really(*given)

    monkeypatch.setattr(OpenShard, "__init__", opens)
    plan = make_plan(settings_for(dataset, "skip"))
    assert (plan.cells, plan.skipped) == (CELLS, ())


@pytest.mark.parametrize("given", [{}, {"where": "name != 'x'"}, {"per": "name", "at_most": 2}])
def test_memory_is_the_same_whatever_the_row_groups(tmp_path: Path, given: dict[str, Any]) -> None:
    rows, width = 30_000, 60
    tokens = np.full((rows, width), 3)
    tokens[:, 0] = 1
    values = np.random.default_rng(0).integers(1, 9, (rows, width)).astype(np.float32)
    values[:, 0] = -2
    offsets = pa.array(np.arange(0, rows * width + 1, width, dtype=np.int32))
    table = pa.table(
        {
            "genes": pa.ListArray.from_arrays(offsets, pa.array(tokens.reshape(-1))),
            "expressions": pa.ListArray.from_arrays(offsets, pa.array(values.reshape(-1))),
            "name": [f"a long name of the cell {at % 7_000:09}" for at in range(rows)],
        }
    )
    most = {}
    for group_rows in (1_000, rows):
        dataset = write_dataset(tmp_path / str(group_rows), [table], gene_table(10), group_rows)
        most[group_rows] = most_memory(partial(land_some, dataset, given))
    assert most[rows] < 2 * most[1_000]
    assert most[rows] < table.nbytes / 4


def land_some(dataset: Path, given: dict[str, Any]) -> None:
    settings = settings_for(dataset, "fail", **given)
    plan = make_plan(settings)
    for part in plan.partitions:
        land_cells(part, plan.vocabulary, settings)


def most_memory(work: Callable[[], None]) -> int:
    """Most bytes that Arrow had at a time."""
    pool, before = pa.proxy_memory_pool(pa.default_memory_pool()), pa.default_memory_pool()
    pa.set_memory_pool(pool)
    try:
        work()
    finally:
        pa.set_memory_pool(before)
    return int(pool.max_memory())
