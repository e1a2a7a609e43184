"""Which cells a plan chooses, and that streaming lands those and no others."""

import re
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.base.errors import DataError, SettingsError
from tasks.core.base.settings import Settings
from tasks.core.dataset.landing import find_tokens, land_cells
from tasks.core.dataset.place import Place
from tasks.core.dataset.plan import make_plan
from tasks.core.dataset.shard import OpenShard
from tasks.core.dataset.spread import draw_rows, even_order, evenly_spaced, share_out
from tasks.core.numerics.block import decode_table
from tasks.core.references.cells import Cells, Plan
from tasks.core.storage.store import store_of
from tests.small_dataset import Cell, cell, gene_table, random_cells, table_of, write_dataset
from tests.spread_reads import IO, spread_reads

LINES = ("A", "B", "B", "C", "C", "C", None)


def settings_for(folder: Path, **given: object) -> Settings:
    return Settings.model_validate({"dataset": str(folder), "store": str(folder.parent / "store")} | given)


def chosen(folder: Path, **given: object) -> tuple[Plan, pl.DataFrame]:
    """The plan, and the metadata of the cells that it has landed."""
    settings = settings_for(folder, **given)
    plan = make_plan(settings)
    return plan, landed(plan, settings)[1]


def landed(plan: Plan, settings: Settings) -> tuple[list[Cells], pl.DataFrame]:
    cells = [land_cells(part, plan.vocabulary, settings).result for part in plan.partitions]
    store = store_of(settings)
    frames = [pl.DataFrame(pl.from_arrow(decode_table(store.get(part.metadata)))) for part in cells]
    return cells, pl.concat(frames)


def numbered(start: int, rows: int, plate: str) -> list[Cell]:
    """Cells whose one count is the number that their metadata hold."""
    return [
        cell({3: float(number + 1)}, plate=plate, line=LINES[number % len(LINES)], number=number)
        for number in range(start, start + rows)
    ]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four shards of 30, 50, 20 and 40 cells in row groups of ten, of two plates."""
    sizes, plates, start = (30, 50, 20, 40), ("plate1", "plate1", "plate2", "plate2"), 0
    shards = []
    for rows, plate in zip(sizes, plates, strict=True):
        shards.append(table_of(numbered(start, rows, plate)))
        start += rows
    return write_dataset(tmp_path / "dataset", shards, gene_table(10))


def every(folder: Path) -> pl.DataFrame:
    return chosen(folder, samples="all")[1]


def test_a_condition_takes_the_first_cells_that_meet_it(folder: Path) -> None:
    plan, cells = chosen(folder, samples=25, where="line in ('A', 'C') and number >= 12")
    expected = every(folder).filter(pl.col("line").is_in(["A", "C"]) & (pl.col("number") >= 12)).head(25)
    assert cells.equals(expected)
    assert (plan.cells, plan.exhausted) == (25, False)
    assert {part.shard_name[11:16] for part in plan.partitions} == {"00000", "00001"}


def test_fewer_that_match_than_asked_for_end_the_dataset_early(folder: Path) -> None:
    plan, cells = chosen(folder, samples=100, where="line is null")
    assert cells.equals(every(folder).filter(pl.col("line").is_null()))
    assert plan.exhausted


def test_what_a_block_holds_is_of_the_cells_chosen(folder: Path) -> None:
    settings = settings_for(folder, samples="all", where="number in (3, 47, 48, 139)", block_cells=3)
    plan = make_plan(settings)
    cells, metadata = landed(plan, settings)
    blocks = [
        decode_table(store_of(settings).get(ref))
        for part in cells
        for ref in find_tokens(store_of(settings), part).blocks
    ]
    counts = [int(value) for block in blocks for values in block["values"].to_pylist() for value in values]
    assert [count - 1 for count in counts] == metadata["number"].to_list() == [3, 47, 48, 139]


def test_row_groups_that_cannot_match_are_not_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[tuple[Any, ...]] = []
    really = OpenShard.batches

    def noted(shard: OpenShard, groups: Sequence[int], columns: Sequence[str]) -> Iterator[pa.Table]:
        if columns:
            read.append((shard.name[11:16], *groups, list(columns)))
        return really(shard, groups, columns)

    monkeypatch.setattr(OpenShard, "batches", noted)
    # The plate is one and the same in each row group: that is known without reading it.
    make_plan(settings_for(folder, samples="all", where="plate == 'plate2' and number < 95"))
    assert sorted(read) == [("00002", 0, ["number"]), ("00002", 1, ["number"])]
    read.clear()
    make_plan(settings_for(folder, samples="all", per="plate", at_most=5))
    assert not read


@pytest.mark.parametrize("first", [True, False])
def test_a_part_of_a_struct_is_not_taken_for_a_column_named_like_it(tmp_path: Path, first: bool) -> None:
    beside = {"p.m": pa.array([1, 1, 2, 2]), "p": pa.array([{"x": [9], "m": 7}] * 4), "after": pa.array([3, 3, 4, 4])}
    table = table_of(random_cells(4, 10))
    for name in sorted(beside, reverse=first):
        table = table.append_column(name, beside[name])
    folder = write_dataset(tmp_path / "dataset", [table], gene_table(10), group_rows=2)
    for where, number in {"`p.m` == 2": 2, "`p.m` < 7 and after == 3": 2, "`p.m` > 0": 4}.items():
        assert chosen(folder, samples="all", where=where)[1].height == number
    assert chosen(folder, samples="all", per="p.m", at_most=1)[1]["p.m"].to_list() == [1, 2]


@pytest.mark.parametrize("how", [{}, {"sampling": "spread", "samples": 30}])
def test_columns_and_types_that_only_late_shards_have_can_be_asked_for(
    tmp_path: Path, how: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    columns = [{"x": pa.array([number, None], pa.int32())} for number in range(9)]
    columns.append({"x": pa.array(["nine", "0"]), "late": pa.array([True, False])})
    tables = [table_of(random_cells(2, 10)) for _ in columns]
    for at, beside in enumerate(columns):
        for name, values in beside.items():
            tables[at] = tables[at].append_column(name, values)
    folder = write_dataset(tmp_path / "dataset", tables, gene_table(10))
    asked = {"samples": "all"} | how
    assert chosen(folder, where="late == true", **asked)[1]["x"].to_list() == ["nine"]
    assert chosen(folder, where="x in ('nine', '3')", **asked)[1]["x"].to_list() == ["3", "nine"]
    assert chosen(folder, where="x == '0'", **asked)[0].cells == 2
    assert chosen(folder, **asked, per="late", at_most=3)[1]["late"].null_count() == 3
    opened: Counter[str] = Counter()
    really = OpenShard.__init__

    def noted(shard: OpenShard, place: Place, name: str, file: Any, version: str) -> None:
        opened[name] += 1
        really(shard, place, name, file, version)

    monkeypatch.setattr(OpenShard, "__init__", noted)
    make_plan(settings_for(folder, where="x == '0'", **asked))
    assert max(opened.values()) <= 2


def test_a_bad_shard_that_no_cell_is_wanted_of_is_no_matter_to_a_condition(tmp_path: Path) -> None:
    shards = [table_of(numbered(2 * at, 2, "plate1")) for at in range(10)]
    folder = write_dataset(tmp_path / "dataset", shards, gene_table(10))
    next((folder / "data").glob("train-00009-*")).write_bytes(b"nothing")
    plan, cells = chosen(folder, samples=5, where="number > 3")
    assert (cells["number"].to_list(), plan.skipped) == ([4, 5, 6, 7, 8], ())


def test_at_most_so_many_of_each_group_in_stream_order(folder: Path) -> None:
    plan, cells = chosen(folder, samples="all", per="line", at_most=9)
    assert cells.equals(every(folder).filter(pl.int_range(pl.len()).over("line") < 9))
    assert Counter(cells["line"].to_list()) == {"A": 9, "B": 9, "C": 9, None: 9}
    matching = chosen(folder, samples=10, per="line", at_most=4, where="number > 20 and line is not null")[1]
    met = every(folder).filter((pl.col("number") > 20) & pl.col("line").is_not_null())
    assert matching.equals(met.filter(pl.int_range(pl.len()).over("line") < 4).head(10))
    assert plan.partitions[0].rows is not None


def test_spread_groups_come_from_all_over(folder: Path) -> None:
    _, cells = chosen(folder, samples="all", sampling="spread", per="line", at_most=8)
    assert Counter(cells["line"].to_list()) == {"A": 8, "B": 8, "C": 8, None: 8}
    assert set(cells["plate"]) == {"plate1", "plate2"}
    # More than there are of some.
    assert Counter(chosen(folder, samples="all", sampling="spread", per="line", at_most=25)[1]["line"].to_list()) == {
        "A": 20,
        "B": 25,
        "C": 25,
        None: 20,
    }
    _, few = chosen(folder, samples=13, sampling="spread", per="line", at_most=8, where="number > 5")
    assert len(few) == 13
    assert few["number"].min() > 5  # type: ignore[operator]


@pytest.mark.parametrize(
    "how",
    [
        {"sampling": "spread"},
        {"sampling": "spread", "where": "line != 'A'"},
        {"sampling": "spread", "per": "line", "at_most": 6},
        {"where": "line == 'C'"},
    ],
)
def test_the_choice_depends_on_nothing_but_data_and_seed(folder: Path, how: dict[str, object]) -> None:
    made = [chosen(folder, samples=40, partition_cells=cells, **how) for cells in (7, 15, 1_000)]
    again = chosen(folder, samples=40, store=str(folder.parent / "other"), workers=1, **how)
    assert all(cells.equals(again[1]) for _, cells in made)
    # Of row groups that are larger than a partition, five times as many are one.
    assert all(part.cells <= 5 * 7 for part in made[0][0].partitions)
    other = chosen(folder, samples=40, seed=7, **how)[1]
    assert other.equals(again[1]) == ("sampling" not in how)


def test_spread_cells_are_a_sample_of_each_shard(folder: Path) -> None:
    plan, cells = chosen(folder, samples=28, sampling="spread")
    assert [
        cells.filter(pl.col("number").is_between(*bounds)).height
        for bounds in ((0, 29), (30, 79), (80, 99), (100, 139))
    ] == [6, 10, 4, 8]
    assert cells["number"].is_sorted()
    assert cells["number"].n_unique() == plan.cells == 28
    assert (
        chosen(folder, samples="all", sampling="spread")[0].partitions
        == make_plan(settings_for(folder, samples="all")).partitions
    )
    assert chosen(folder, samples=500, sampling="spread")[1].equals(every(folder))
    assert chosen(folder, samples=500, sampling="spread")[0].exhausted


def test_spread_cells_that_match_are_in_proportion_to_those_that_do(folder: Path) -> None:
    _, cells = chosen(folder, samples=10, sampling="spread", where="line == 'C'")
    there = every(folder).filter(pl.col("line") == "C")
    shares = there["plate"].value_counts(normalize=True).sort("plate")["proportion"].to_numpy()
    assert np.allclose(cells["plate"].value_counts().sort("plate")["count"].to_numpy(), 10 * shares, atol=1)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"where": "plate == 'plate9'"}, "--where plate == 'plate9': none of the 140 cells match"),
        ({"where": "number > 1e6", "sampling": "spread"}, "none of the 140 cells match"),
        ({"where": "plat == 'a'"}, "no column 'plat'; there are drug, plate, line, number"),
        ({"per": "kind", "at_most": 1}, "--per kind: there is no such column; there are drug, plate, line, number"),
        ({"where": "plate == "}, "unable to parse"),
    ],
)
def test_what_cannot_be_chosen_is_refused(folder: Path, given: dict[str, object], message: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(message)):
        make_plan(settings_for(folder, **given))


def test_a_bad_cell_is_named_by_its_row_in_the_shard_if_it_is_chosen(folder: Path) -> None:
    cells = numbered(30, 50, "plate1")
    cells[33] = cell({3: 0.5}, plate="plate1", line="Z", number=63)
    path = folder / "data" / "train-00001-of-00004.parquet"
    pq.write_table(table_of(cells), path, row_group_size=10)
    bad = settings_for(folder, samples="all", where="number in (31, 63, 64)")
    with pytest.raises(DataError, match=r"train-00001-of-00004\.parquet, row 33: a count that is not whole"):
        landed(make_plan(bad), bad)
    skips = bad.model_copy(update={"on_bad_data": "skip", "where": "number in (31, 63, 65)"})
    parts, metadata = landed(make_plan(skips), skips)
    assert [(bad.row, bad.rows) for part in parts for bad in part.skipped] == [(33, 1)]
    assert metadata["number"].to_list() == [31, 65]
    assert chosen(folder, samples="all", where="number in (31, 65)")[1]["number"].to_list() == [31, 65]


def test_choices_with_the_same_ends_are_kept_apart(folder: Path) -> None:
    one, other = (chosen(folder, samples="all", where=f"number in (3, {middle}, 9)") for middle in (5, 6))
    assert one[0].partitions[0].origin == other[0].partitions[0].origin
    assert one[1]["number"].to_list() == [3, 5, 9]
    assert other[1]["number"].to_list() == [3, 6, 9]


def test_a_shard_that_cannot_be_read_is_left_out_and_its_share_is_of_others(folder: Path) -> None:
    path = folder / "data" / "train-00001-of-00004.parquet"
    path.write_bytes(path.read_bytes()[:-50])
    for how in (
        {"sampling": "spread"},
        {"where": "number < 120"},
        {"sampling": "spread", "per": "line", "at_most": 15},
    ):
        with pytest.raises(DataError, match="train-00001"):
            make_plan(settings_for(folder, samples=40, **how))
        plan, cells = chosen(folder, samples=40, on_bad_data="skip", **how)
        assert len(cells) == plan.cells == 40
        assert [bad.shard for bad in plan.skipped] == ["data/train-00001-of-00004.parquet"]
        assert plan.skipped[0].rows < 40


@pytest.fixture(scope="module")
def screen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """200,000 cells in eight shards of 25 row groups, of three plates; the cells of all row groups are the same."""
    folder, rng = tmp_path_factory.mktemp("screen") / "dataset", np.random.default_rng(0)
    tokens = np.sort(rng.integers(3, 60_003, (1_000, 150)), axis=1)
    tokens[:, 0] = 1
    values = np.where(tokens == 1, -2.0, rng.geometric(0.6, tokens.shape)).astype(np.float32)
    lists: dict[str, Any] = {
        name: pa.FixedSizeListArray.from_arrays(pa.array(items.ravel()), 150).cast(pa.list_(kind))
        for name, items, kind in (("genes", tokens, pa.int64()), ("expressions", values, pa.float32()))
    }
    write_dataset(folder, [], gene_table(60_010))
    group = pa.table(lists | {"row": np.arange(1_000), "plate": ["none"] * 1_000})
    for index in range(8):
        path = folder / "data" / f"train-{index:05}-of-00008.parquet"
        plate = pa.array([f"plate{index // 3 + 1}"] * 25_000)
        table = pa.concat_tables([group] * 25).set_column(3, "plate", plate)
        twin = folder / "data" / f"train-{index - 1:05}-of-00008.parquet"
        if index % 3:
            shutil.copy(twin, path)
        else:
            pq.write_table(table, path, row_group_size=1_000, use_dictionary=["plate"])
    yield folder
    shutil.rmtree(folder)


@pytest.mark.skipif(not IO.exists(), reason="this system does not count the bytes that are read")
def test_a_spread_sample_reads_little_more_than_its_row_groups(screen: Path) -> None:
    found = spread_reads(screen, settings_for(screen, samples=20_000, sampling="spread"))
    assert [len(groups) for groups in found.groups.values()] == [3] * 8
    assert found.read <= 1.3 * found.used, f"{found.read:,} of {found.used:,} bytes"
    assert found.cells.num_rows == 20_000
    of_plates = Counter(found.cells["plate"].to_pylist())
    for plate, share in {"plate1": 3 / 8, "plate2": 3 / 8, "plate3": 2 / 8}.items():
        assert abs(of_plates[plate] / (20_000 * share) - 1) <= 0.02


sizes = st.lists(st.integers(0, 50), min_size=1, max_size=12).filter(any)


@given(sizes, st.floats(0, 1))
def test_shares_add_up_and_are_never_more_than_there_is(each: list[int], part: float) -> None:
    total = int(part * sum(each))
    shares = share_out(total, np.array(each))
    assert shares.sum() == total
    assert np.all(shares <= each)
    assert np.all(np.abs(shares - total * np.array(each) / sum(each)) < 1)


@given(st.integers(1, 300), st.floats(0, 1, exclude_max=True), st.data())
def test_places_are_spread(many: int, offset: float, data: st.DataObject) -> None:
    few = data.draw(st.integers(1, many))
    places = evenly_spaced(many, few, offset)
    assert np.all((places >= 0) & (places < many))
    gaps = np.diff(np.append(places, places[0] + many))
    assert gaps.min() >= many // few
    assert gaps.max() <= -(-many // few)
    assert sorted(even_order(many, offset).tolist()) == list(range(many))


@given(sizes, st.floats(0, 1), st.integers(0, 9))
def test_drawn_rows_come_from_as_few_row_groups_as_that_takes(each: list[int], part: float, seed: int) -> None:
    group_of = np.repeat(np.arange(len(each)), each)
    rows = np.arange(len(group_of)) * 3
    quota = int(part * len(rows))
    drawn = draw_rows(rows, group_of, quota, np.random.default_rng(seed)) if quota else rows[:0]
    assert len(set(drawn.tolist())) == quota
    assert set(drawn.tolist()) <= set(rows.tolist())
    assert np.all(np.diff(drawn) > 0)
