"""Columns of every type that parquet holds, as metadata of cells: through the plan, the choice, and the results."""

import datetime
import io
import operator
import uuid
from collections.abc import Callable
from decimal import Decimal
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.core.base.errors import DataError, TahoeFlowError
from tasks.core.base.settings import Settings
from tasks.core.dataset.columns import read_column
from tasks.core.dataset.joins import join, read_sides
from tasks.core.dataset.kinds import check_values, common_kind, conform, kind_named, table_kind
from tasks.core.dataset.landing import land_cells
from tasks.core.dataset.metadata import Question
from tasks.core.dataset.place import Place
from tasks.core.dataset.plan import make_plan, read_vocabulary
from tasks.core.dataset.shard import open_shard
from tasks.core.dataset.where import Where
from tasks.core.numerics.block import decode_table
from tasks.core.references.cells import Cells, Plan
from tasks.core.results.anndata_export import AnnDataParts, write_h5ad
from tasks.core.results.anndata_table import TableRows
from tasks.core.results.embeddings import write_csv, write_part
from tasks.core.storage.store import store_of
from tests.small_dataset import gene_table, random_cells, table_of, write_dataset

GENES, ROWS = 40, 12
DAY = datetime.date(2024, 2, 29)
HOURS = datetime.timedelta(hours=1.5)
TIME = datetime.time(13, 30, 5)
SIGNS = {"==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
UNITS = ("s", "ms", "us", "ns")
INSTANT = datetime.datetime(2024, 2, 29, 13, 30, 5)


def times(values: list[Any]) -> list[Any]:
    """So many values with a null among them, each some times."""
    return [None, *values * ROWS][:ROWS]


def categories(texts: pa.Array, index: str = "int8") -> pa.Array:
    """As pandas has them, or with other indices."""
    coded = texts.dictionary_encode()
    return pa.DictionaryArray.from_arrays(coded.indices.cast(index), coded.dictionary)


def extension(kind: Any, values: list[Any]) -> pa.Array:
    return pa.ExtensionArray.from_storage(kind, pa.array(times(values), kind.storage_type))


# Each with what a CSV has of its second value.
HELD: dict[str, tuple[pa.Array, str]] = {
    "bool": (pa.array(times([True, False])), "true"),
    **{f"int{bits}": (pa.array(times([-3, 4]), f"int{bits}"), "-3") for bits in (8, 16, 32, 64)},
    **{f"uint{bits}": (pa.array(times([2**bits - 1, 4]), f"uint{bits}"), str(2**bits - 1)) for bits in (8, 16, 32, 64)},
    "half": (pa.array(times([1.5, 2.5]), pa.float16()), "1.5"),
    "float": (pa.array(times([1.5, float("nan")]), pa.float32()), "1.5"),
    "double": (pa.array(times([1e300, float("inf")])), "1e+300"),
    "decimal32": (pa.array(times([Decimal("1.50")]), pa.decimal32(5, 2)), "1.50"),
    "decimal64": (pa.array(times([Decimal("1.50")]), pa.decimal64(12, 2)), "1.50"),
    "decimal128": (pa.array(times([Decimal("1.50")]), pa.decimal128(38, 2)), "1.50"),
    "decimal256": (pa.array(times([Decimal("1.50")]), pa.decimal256(76, 2)), "1.50"),
    "string": (pa.array(times(["a", "é", "b\x00c"])), "a"),
    "large_string": (pa.array(times(["a", "b"]), pa.large_string()), "a"),
    "string_view": (pa.array(times(["a", "b"]), pa.string_view()), "a"),
    "dictionary": (pa.array(times(["a", "b"])).dictionary_encode(), "a"),
    "dictionary of numbers": (pa.array(times([5, 7])).dictionary_encode(), "5"),
    "dictionary of large": (pa.array(times(["a", "b"]), pa.large_string()).dictionary_encode(), "a"),
    "ordered": (pa.DictionaryArray.from_arrays(pa.array(times([0, 1]), pa.int8()), ["a", "b"], ordered=True), "a"),
    "null": (pa.nulls(ROWS), ""),
    "date32": (pa.array(times([DAY])), "2024-02-29"),
    "date64": (pa.array(times([DAY]), pa.date64()), "2024-02-29"),
    "time32": (pa.array(times([TIME]), pa.time32("s")), "13:30:05.000000000"),
    "time64": (pa.array(times([TIME]), pa.time64("us")), "13:30:05.000000000"),
    **{f"timestamp {unit}": (pa.array(times([INSTANT]), pa.timestamp(unit)), "2024-02-29T13:30:05") for unit in UNITS},
    "zone": (pa.array(times([INSTANT]), pa.timestamp("us", "Europe/Berlin")), "2024-02-29T13:30:05"),
    "offset": (pa.array(times([INSTANT]), pa.timestamp("ms", "+05:30")), "2024-02-29T13:30:05"),
    "no zone": (pa.array(times([INSTANT]), pa.timestamp("ns", "Nowhere/Land")), "2024-02-29T13:30:05"),
    **{f"duration {unit}": (pa.array(times([HOURS]), pa.duration(unit)), "5400.0") for unit in UNITS},
    "json": (extension(pa.json_(), ['{"a": 1}']), '{"a": 1}'),
    "bool8": (extension(pa.bool8(), [1, 0]), "1"),
    "opaque": (extension(pa.opaque(pa.string(), "x", "y"), ["a"]), "a"),
}  # fmt: skip
NOT_HELD = {
    "binary": pa.array(times([b"a"])),
    "large_binary": pa.array(times([b"a"]), pa.large_binary()),
    "binary_view": pa.array(times([b"a"]), pa.binary_view()),
    "fixed_size_binary": pa.array(times([b"ab"]), pa.binary(2)),
    "dictionary of binary": pa.array(times([b"a"])).dictionary_encode(),
    "list": pa.array(times([[1]])),
    "large_list": pa.array(times([[1]]), pa.large_list(pa.int64())),
    "fixed_size_list": pa.array(times([[1, 2]]), pa.list_(pa.int64(), 2)),
    "list_view": pa.array(times([[1]]), pa.list_view(pa.int64())),
    "struct": pa.array(times([{"a": 1}])),
    "map": pa.array(times([[("a", 1)]]), pa.map_(pa.string(), pa.int64())),
    "uuid": extension(pa.uuid(), [uuid.UUID(int=7).bytes]),
    "tensor": pa.FixedShapeTensorArray.from_numpy_ndarray(np.zeros((ROWS, 2, 2))),
}


def dataset_of(folder: Path, *columns: pa.Array) -> Path:
    """A dataset with a shard for each of these, as the column `x`; a shard without it for None."""
    shards = []
    for draw, column in enumerate(columns):
        table = table_of(random_cells(ROWS, GENES, draw=draw))
        shards.append(table if column is None else table.append_column("x", column))
    return write_dataset(folder / "dataset", shards, gene_table(GENES))


def settings_for(dataset: Path, **given: object) -> Settings:
    return Settings.model_validate(
        {"dataset": str(dataset), "store": str(dataset.parent / "store"), "samples": "all"} | given
    )


def land(dataset: Path, **given: object) -> tuple[Plan, list[Cells], pa.Table]:
    settings = settings_for(dataset, **given)
    plan = make_plan(settings)
    cells = [land_cells(part, plan.vocabulary, settings).result for part in plan.partitions]
    return plan, cells, pa.concat_tables([decode_table(store_of(settings).get(part.metadata)) for part in cells])


def anndata_of(table: pa.Table, path: Path) -> Any:
    import anndata  # noqa: PLC0415

    obs, var = pl.DataFrame(table), pl.DataFrame({"gene": ["g"]})
    of = AnnDataParts(
        obs=TableRows(lambda: iter([obs]), len(obs)), var=TableRows(lambda: iter([var]), 1),
        obsm={}, varm={}, uns={}, counts=None,
    )  # fmt: skip
    write_h5ad(path, of)
    return anndata.read_h5ad(path)


@pytest.mark.parametrize("name", HELD)
def test_what_a_table_can_hold_is_in_all_results(tmp_path: Path, name: str) -> None:
    column, in_csv = HELD[name]
    dataset = dataset_of(tmp_path, column)
    plan, cells, table = land(dataset)
    assert plan.columns == ("drug", "plate", "x")
    assert not plan.left_out
    assert table["x"].null_count == column.null_count
    write_part([table], tmp_path, 0, has_csv=False)
    write_csv([table], tmp_path)
    rows = pl.read_csv(tmp_path / "embeddings.csv", infer_schema=False)["x"].to_list()
    assert rows[0] is None
    assert (rows[1] or "").startswith(in_csv)
    assert pl.read_parquet(tmp_path / "embeddings" / "part-00000.parquet").equals(pl.DataFrame(table))
    assert len(anndata_of(table, tmp_path / "results.h5ad").obs["x"]) == ROWS
    coded = read_column(store_of(settings_for(dataset)), cells, "x", 1)
    assert sum(coded.counts) == ROWS
    plan, _, few = land(dataset, per="x", at_most=1)
    assert few.num_rows == plan.cells == len(coded.values)
    assert land(dataset, where="x is null")[2].num_rows == column.null_count


@pytest.mark.parametrize("name", NOT_HELD)
def test_what_a_table_cannot_hold_is_left_out_and_listed(tmp_path: Path, name: str) -> None:
    plan, _, table = land(dataset_of(tmp_path, NOT_HELD[name]))
    assert plan.columns == ("drug", "plate")
    assert table.column_names == ["drug", "plate"]
    assert plan.left_out["x"].startswith("type ")


def test_what_is_written_otherwise_is_told(tmp_path: Path) -> None:
    told = {
        name: make_plan(settings_for(dataset_of(tmp_path / name, HELD[name][0]))).converted
        for name in ("duration ns", "zone", "string")
    }
    assert told == {
        "duration ns": {"x": "duration[ns]: in seconds"},
        "zone": {"x": "timestamp[us, tz=Europe/Berlin]: in UTC"},
        "string": {},
    }


def test_categories_are_compared_as_the_texts_that_they_are(tmp_path: Path) -> None:
    dataset = dataset_of(tmp_path, HELD["dictionary"][0])
    assert set(land(dataset, where="x == 'a'")[2]["x"].to_pylist()) == {"a"}
    assert set(land(dataset, where="x in ('a', 'b')", per="x", at_most=2)[2]["x"].to_pylist()) == {"a", "b"}


# Of each type of numbers, its extremes and their neighbours.
EXTREMES: dict[str, list[Any]] = {
    **{f"int{bits}": [-(2 ** (bits - 1)), 1 - 2 ** (bits - 1), 0, 2 ** (bits - 1) - 1] for bits in (8, 16, 32, 64)},
    **{f"uint{bits}": [0, 2 ** (bits - 1) + 3, 2**bits - 2, 2**bits - 1] for bits in (8, 16, 32, 64)},
    "decimal32": [Decimal("-999.99"), Decimal("1.50"), Decimal("1.51")],
    "decimal64": [Decimal("-9999999999.99"), Decimal("1.50"), Decimal("9999999999.98")],
    "decimal128": [Decimal("123456789012345678901.50"), Decimal("123456789012345678901.51"), Decimal("9" * 36 + ".99")],
    "half": [-65504.0, 0.0, 1.5],
    "float": [-3.4028234663852886e38, 2.0**-149, 16777216.0],
    "double": [-1.7976931348623157e308, 5e-324, 2.0**53],
}
BEYOND = ["-1", "1.5", "1.505", "-1e400", "1e400", "-0.1", str(2**63), f"{2**64}.5", "1e99999999999999999999"]


@pytest.mark.parametrize("name", EXTREMES)
def test_numbers_of_any_type_are_compared_without_rounding(tmp_path: Path, name: str) -> None:
    values, kind = EXTREMES[name], HELD[name][0].type
    cells = table_of(random_cells(len(values), GENES)).append_column("x", pa.array(values, kind))
    dataset = write_dataset(tmp_path / "dataset", [cells], gene_table(GENES), group_rows=1)
    with open_shard(Place(str(dataset)), "data/train-00000-of-00001.parquet") as shard:
        for text, (sign, holds) in product([*map(str, values), *BEYOND], SIGNS.items()):
            where, number = (
                f"x {sign} {text}",
                float(text) if "e" in text or pa.types.is_floating(kind) else Decimal(text),
            )
            found = Question(Where(where), None, {"x": table_kind(kind)}, ()).look_at_all(shard, None, ())
            assert found.rows.tolist() == [row for row, value in enumerate(values) if holds(value, number)], where


def test_durations_are_compared_as_seconds(tmp_path: Path) -> None:
    dataset = dataset_of(tmp_path, HELD["duration us"][0])
    assert land(dataset, where="x >= 5400")[2].num_rows == ROWS - 1
    assert land(dataset, where="x != 5399.5 and x < 5400.5")[2].num_rows == ROWS - 1


@pytest.mark.parametrize(
    ("columns", "kind", "values", "told"),
    [
        ((pa.nulls(ROWS), pa.array([3] * ROWS)), "int64", {None, 3}, None),
        ((pa.array([3] * ROWS, pa.int8()), pa.array([4] * ROWS)), "int64", {3, 4}, "int8 and int64: as int64"),
        ((pa.array([3] * ROWS), pa.array([0.5] * ROWS)), "string", {"3", "0.5"}, "int64 and double: as string"),
        ((pa.array([3] * ROWS, pa.int32()), pa.array([0.5] * ROWS)), "double", {3, 0.5}, "int32 and double: as double"),
        ((pa.array(["a"] * ROWS), None), "string", {"a", None}, None),
        ((None, pa.array(["a"] * ROWS).dictionary_encode()), "string", {"a", None}, None),
        ((pa.array(["a"] * ROWS), pa.array([3] * ROWS)), "string", {"a", "3"}, "string and int64: as string"),
    ],
)
def test_shards_that_differ_are_joined(
    tmp_path: Path, columns: tuple[Any, ...], kind: str, values: set[Any], told: str | None
) -> None:
    dataset = dataset_of(tmp_path, *columns)
    how: list[dict[str, Any]] = [{}, {"where": "drug is not null"}, {"sampling": "spread", "samples": 20}]
    for given in how:
        plan, _, table = land(dataset, **given)
        assert str(table.schema.field("x").type) == kind
        assert set(table["x"].to_pylist()) == values
        assert plan.converted.get("x") == told


def test_a_column_that_one_shard_has_as_lists_is_left_out_and_the_shard_named(tmp_path: Path) -> None:
    plan = land(dataset_of(tmp_path, HELD["string"][0], NOT_HELD["list"]))[0]
    assert plan.left_out == {"x": "type list<element: int64> in data/train-00001-of-00002.parquet"}


def test_a_stale_description_in_the_readme_is_no_matter(tmp_path: Path) -> None:
    dataset = dataset_of(tmp_path, HELD["string"][0])
    text = (dataset / "README.md").read_text()
    described = "dataset_info:\n- config_name: expression_data\n  features:\n  - name: gone\n    dtype: int64\n---\n"
    (dataset / "README.md").write_text(text.removesuffix("---\n") + described)
    assert land(dataset)[2].num_rows == ROWS


LATIN = pa.array([None, b"\xb5M", *[b"fine"] * (ROWS - 2)]).view(pa.string())
LARGE = LATIN.cast(pa.large_string())
NO_TEXT = {"string": LATIN, "large_string": LARGE}
NO_TEXT |= {
    f"{texts.type} by {index}": categories(texts, index)
    for texts in (LATIN, LARGE)
    for index in ("int8", "uint16", "int32", "int64")
}


@pytest.mark.parametrize("name", NO_TEXT)
@pytest.mark.parametrize("given", [{}, {"where": "x != 'other'"}, {"per": "x", "at_most": 20}])
def test_text_that_is_not_utf8_is_named_and_its_cell_skipped_if_asked(
    tmp_path: Path, name: str, given: dict[str, Any]
) -> None:
    dataset = dataset_of(tmp_path, NO_TEXT[name])
    with pytest.raises(DataError, match=r"shard data/train-00000-of-00001\.parquet, row 1: its 'x' is not UTF-8"):
        land(dataset, **given)
    _, cells, table = land(dataset, on_bad_data="skip", **given)
    assert [(bad.row, bad.rows) for part in cells for bad in part.skipped] == [(1, 1)]
    assert set(table["x"].to_pylist()) <= {None, "fine"}


def test_text_that_is_not_utf8_is_told_of_the_dataset_s_own_tables(tmp_path: Path) -> None:
    dataset = dataset_of(tmp_path, HELD["string"][0])
    for targets in (latin := pa.array([b"\xb5", b"b"]).view(pa.string()), categories(latin)):
        drugs = pa.table({"drug": ["drug0", "drug1"], "targets": targets})
        pq.write_table(drugs, dataset / "metadata" / "drug_metadata.parquet")
        plan, _, table = land(dataset, join=True)
        assert set(table["targets"].to_pylist()) == {"\ufffd", "b", None}
        assert "drug_metadata has texts that are not UTF-8: U+FFFD stands for what cannot be read" in plan.notes
    for symbols in (micro := pa.array([b"\xb5"] * GENES).view(pa.string()), categories(micro)):
        genes = gene_table(GENES).set_column(0, "gene_symbol", symbols)
        pq.write_table(genes, dataset / "metadata" / "gene_metadata.parquet")
        with pytest.raises(DataError, match="'gene_symbol' is not UTF-8"):
            make_plan(settings_for(dataset))


TIMES = {
    "date": pa.array([1, 2**31 - 1, *[1] * (ROWS - 2)], pa.date32()),
    "timestamp": pa.array([1, -(2**62), *[1] * (ROWS - 2)], pa.timestamp("us")),
    "time": pa.array([1, 90_000 * 10**9, *[1] * (ROWS - 2)], pa.time64("ns")),
}


@pytest.mark.parametrize("name", TIMES)
def test_times_that_no_reader_knows_are_named(tmp_path: Path, name: str) -> None:
    dataset = dataset_of(tmp_path, TIMES[name])
    with pytest.raises(DataError, match=r"row 1: its 'x' is no time of the years 1 to 9999"):
        land(dataset)
    assert land(dataset, on_bad_data="skip")[2].num_rows == ROWS - 1


def test_large_integers_with_nulls_keep_their_values_in_anndata(tmp_path: Path) -> None:
    table = pa.table({"x": [2**63 - 1, None, 5], "y": [1, None, 3], "z": pa.array([2**64 - 1, None, 0], pa.uint64())})
    obs = anndata_of(table, tmp_path / "results.h5ad").obs
    assert obs["x"].tolist() == [str(2**63 - 1), "", "5"]
    assert obs["z"].tolist() == [str(2**64 - 1), "", "0"]
    assert obs["y"].dtype == np.float64


def test_types_are_found_again_by_their_names() -> None:
    for column, _ in HELD.values():
        kind = table_kind(column.type)
        assert kind is not None
        assert kind_named(str(kind)) == kind


LAST = datetime.datetime(9999, 12, 31, 23, 59, 59)
# Of times, which need not be numbers, the first and the last; of nanoseconds those that 64 bits have room for.
ENDS: dict[str, list[Any]] = {
    **{f"timestamp {unit}": [datetime.datetime(1, 1, 1), LAST] for unit in ("s", "ms", "us")},
    "timestamp ns": [-(2**63) + 10**9, 2**63 - 1],
    "no zone": [-(2**63) + 10**9, 2**63 - 1],
    **{name: [datetime.datetime(1, 1, 1), LAST.replace(day=30)] for name in ("zone", "offset")},
    **{name: [datetime.date(1, 1, 1), LAST.date()] for name in ("date32", "date64")},
    "time32": [datetime.time(0), datetime.time(23, 59, 59)],
    "time64": [datetime.time(0), datetime.time(23, 59, 59, 999_999)],
    "decimal256": [Decimal("-" + "9" * 74 + ".99"), Decimal("0.01")],
}


def ends_of(name: str) -> pa.Array:
    """Extreme values of a type, or such as it has."""
    ends = (EXTREMES | ENDS).get(name)
    return HELD[name][0] if ends is None else pa.array([None, *ends], HELD[name][0].type)


@pytest.mark.parametrize("name", HELD)
def test_any_two_types_have_one_in_common_that_holds_all_values_of_both(name: str) -> None:
    for other in HELD:
        kind = common_kind([HELD[name][0].type, HELD[other][0].type])
        assert kind is not None
        assert kind == common_kind([HELD[other][0].type, HELD[name][0].type])
        assert kind_named(str(kind)) == kind
        values = pa.table({"x": ends_of(name)})
        own = conform(values, {"x": common_kind([HELD[name][0].type])}, name)["x"]
        check_values(held := conform(values, {"x": kind}, name), name)
        # Arrow reads no times of day.
        own = own.cast(pa.string()) if pa.types.is_time(own.type) else own
        back = held["x"].cast(own.type)
        # A NaN equals none.
        assert repr(back.to_pylist()) == repr(own.to_pylist()) if pa.types.is_floating(own.type) else back == own, other


@pytest.mark.parametrize(
    ("kinds", "common"),
    [
        ([pa.int64(), pa.uint64()], pa.decimal128(20, 0)),
        ([pa.int64(), pa.decimal128(5, 2)], pa.decimal128(21, 2)),
        ([pa.uint32(), pa.int8(), pa.uint64(), pa.decimal128(10, 1)], pa.decimal128(21, 1)),
        ([pa.decimal128(38, 0), pa.decimal128(38, 10)], pa.string()),
        ([pa.int64(), pa.float64()], pa.string()),
        ([pa.int32(), pa.float32()], pa.float64()),
        ([pa.decimal128(5, 2), pa.float64()], pa.string()),
        ([pa.timestamp("s"), pa.timestamp("us")], pa.timestamp("us")),
        ([pa.timestamp("us"), pa.timestamp("ns")], pa.string()),
    ],
)
def test_numbers_and_times_of_several_types_stay_such_where_one_type_holds_them(
    kinds: list[pa.DataType], common: pa.DataType
) -> None:
    assert common_kind(kinds) == common_kind(kinds[::-1]) == common


ODD = {name: column for name, (column, _) in HELD.items()} | NOT_HELD
OTHER_COLUMNS = {
    "gene_metadata": ("gene_symbol", "ensembl_id", "token_id"),
    "drug_metadata": ("drug", "targets"),
    "sample_metadata": ("sample", "drugname_drugconc"),
    "cell_line_metadata": ("Cell_ID_Cellosaur", "Organ", "Driver_Gene_Symbol", "Driver_VarType"),
}


def refusal(act: Callable[[], object]) -> str | None:
    """What is told of what cannot be done, if it cannot."""
    try:
        act()
    except TahoeFlowError as error:
        return str(error)
    return None


@pytest.mark.parametrize("name", ODD)
def test_a_column_of_any_type_in_the_dataset_s_own_tables_is_taken_or_refused_in_one_line(
    tmp_path: Path, name: str
) -> None:
    keys = pa.table({"drug": ["a"], "sample": ["a"], "cell_line": ["a"]})
    dataset = write_dataset(tmp_path / "dataset", [], gene_table(ROWS))
    place, store = Place(str(dataset)), store_of(settings_for(dataset))

    def joined() -> object:
        return join(keys, read_sides(place, keys.column_names)[0])

    for of, columns in OTHER_COLUMNS.items():
        for column in columns:
            texts = dict.fromkeys(columns, pa.array(["a"] * ROWS))
            table = gene_table(ROWS) if of == "gene_metadata" else pa.table(texts)
            table = table.set_column(columns.index(column), column, ODD[name])
            pq.write_table(table, path := dataset / "metadata" / f"{of}.parquet")
            told = refusal(lambda: read_vocabulary(store, place)) if of == "gene_metadata" else refusal(joined)
            assert told is None or (column in told and "\n" not in told)
        path.unlink()


@pytest.mark.parametrize("column", ["genes", "expressions"])
@pytest.mark.parametrize("name", NOT_HELD)
def test_counts_of_any_other_type_are_refused_in_one_line(tmp_path: Path, name: str, column: str) -> None:
    table = table_of(random_cells(ROWS, GENES))
    odd = table.set_column(table.column_names.index(column), column, NOT_HELD[name])
    dataset = write_dataset(tmp_path / "dataset", [odd], gene_table(GENES))
    with pytest.raises(DataError, match=rf"shard data/train-00000-of-00001\.parquet.*: its '{column}' .*") as refused:
        land(dataset)
    assert "\n" not in str(refused.value)


def test_every_type_is_tried() -> None:
    parquet = io.BytesIO()
    pq.write_table(pa.table({name: column for name, (column, _) in HELD.items()} | NOT_HELD), parquet)
    assert pq.ParquetFile(parquet).metadata.num_columns >= len(HELD) + len(NOT_HELD)
