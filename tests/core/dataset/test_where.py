"""Conditions on metadata against polars, and their messages."""

import operator
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.base.errors import SettingsError
from tasks.core.dataset.place import Place
from tasks.core.dataset.shard import open_shard
from tasks.core.dataset.where import check_columns, columns_of, rows_that_match
from tasks.core.dataset.where_syntax import parse

TEXTS = ("a", "B", "it's", 'say "x"', "back\\slash", "é", "")
NUMBERS = (-3, 0, 2, 7)
COLUMNS = {"plate": st.sampled_from(TEXTS), "moa-fine": st.sampled_from(TEXTS), "dose": st.sampled_from(NUMBERS)}
COLUMNS |= {"part": st.sampled_from([0.05, 0.5, 5.0, -1.0])}
TYPES = pa.schema({"plate": pa.string(), "moa-fine": pa.large_string(), "dose": pa.int64(), "part": pa.float64()})
SIGNS = {"==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}

Pair = tuple[str, pl.Expr]
rows = st.lists(st.fixed_dictionaries({name: st.none() | values for name, values in COLUMNS.items()}), max_size=12)


def quoted(value: Any) -> str:
    if not isinstance(value, str):
        return str(value)
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


@st.composite
def comparisons(draw: st.DrawFn) -> Pair:
    column = draw(st.sampled_from(sorted(COLUMNS)))
    name, of_polars = f"`{column}`", pl.col(column)
    kind = draw(st.sampled_from(["compare", "turned", "in", "not in", "null", "not null"]))
    if kind == "null":
        return f"{name} is null", of_polars.is_null()
    if kind == "not null":
        return f"{name} is not null", of_polars.is_not_null()
    values = draw(st.lists(COLUMNS[column], min_size=1, max_size=3))
    if kind in ("in", "not in"):
        among = of_polars.is_in(values)
        return f"{name} {kind} ({', '.join(map(quoted, values))})", among if kind == "in" else ~among
    sign = draw(st.sampled_from(sorted(SIGNS)))
    if kind == "turned":
        return f"{quoted(values[0])} {sign} {name}", SIGNS[sign](pl.lit(values[0]), of_polars)
    return f"{name}{sign}{quoted(values[0])}", SIGNS[sign](of_polars, pl.lit(values[0]))


def joined(inner: st.SearchStrategy[Pair]) -> st.SearchStrategy[Pair]:
    negated = inner.map(lambda pair: (f"not ({pair[0]})", ~pair[1]))
    both = st.tuples(inner, inner).map(lambda two: (f"({two[0][0]}) and ({two[1][0]})", two[0][1] & two[1][1]))
    either = st.tuples(inner, inner).map(lambda two: (f"({two[0][0]}) OR {two[1][0]}", two[0][1] | two[1][1]))
    # `and` binds more tightly than `or`, and so what is on the left of an `or` may stand without parentheses.
    return negated | both | either


conditions = st.recursive(comparisons(), joined, max_leaves=5)


@given(conditions, rows)
def test_rows_match_as_in_polars(pair: Pair, cells: list[dict[str, Any]]) -> None:
    table = pa.Table.from_pylist(cells, schema=TYPES)
    expected = pl.from_arrow(table).with_row_index().filter(pair[1])["index"].to_list()  # type: ignore[union-attr]
    assert rows_that_match(parse(pair[0]), table).nonzero()[0].tolist() == expected


@given(conditions, rows)
def test_no_row_group_with_a_match_is_ruled_out(
    tmp_path_factory: pytest.TempPathFactory, pair: Pair, cells: list[dict[str, Any]]
) -> None:
    condition, table = parse(pair[0]), pa.Table.from_pylist(cells, schema=TYPES)
    path = tmp_path_factory.getbasetemp() / "groups.parquet"
    pq.write_table(table, path, row_group_size=2)
    with open_shard(Place(str(path.parent)), path.name) as shard:
        for group in range(len(shard.group_rows)):
            bounds = {name: shard.bounds(group, name) for name in columns_of(condition)}
            seen = {None if out is None else bool(out) for out in condition.mask(table[2 * group :][:2]).to_pylist()}
            assert seen <= condition.outcomes(bounds)
            rows = {name: set(table[name][2 * group :][:2].to_pylist()) for name in bounds}
            assert all({bounds[name].low} == rows[name] for name in bounds if bounds[name].constant)


@pytest.mark.parametrize(
    ("expression", "outcomes"),
    [
        ("plate == 'plate2'", {True}),
        ("plate in ('plate1', 'plate3')", {False}),
        ("not plate == 'plate2' or dose > 1", {True, False}),
        ("dose > 5 or plate != 'plate2'", {False}),
        ("dose is null", {False}),
        ("gap is null and plate > 'plate1'", {True}),
        ("gap == 'x'", {None}),
    ],
)
def test_statistics_tell_what_a_row_group_may_hold(tmp_path: Path, expression: str, outcomes: set[bool | None]) -> None:
    table = pa.table({"plate": ["plate2"] * 3, "dose": [1, 3, 5], "gap": pa.nulls(3, pa.string())})
    pq.write_table(table, tmp_path / "one.parquet")
    condition = parse(expression)
    with open_shard(Place(str(tmp_path)), "one.parquet") as shard:
        assert condition.outcomes({name: shard.bounds(0, name) for name in columns_of(condition)}) == outcomes


def test_numbers_that_are_none_match_what_is_unequal(tmp_path: Path) -> None:
    table = pa.table({"x": [float("nan"), 1.0]})
    pq.write_table(table, tmp_path / "nan.parquet")
    for expression, expected in {"x != 1": [True, False], "x < 9": [False, True], "x >= 1": [False, True]}.items():
        assert rows_that_match(parse(expression), table).tolist() == expected
        with open_shard(Place(str(tmp_path)), "nan.parquet") as shard:
            assert True in parse(expression).outcomes({"x": shard.bounds(0, "x")})


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("plate = 'a'", "equality is written ==, at character 7: = 'a'"),
        ("plate ==", "a text in quotes or a number is expected, at its end"),
        ("plate == 'a", "a quote is opened here and not closed, at character 10: 'a"),
        ("plate == moa", "one side must be a column"),
        ("(plate == 'a'", r"'\)' is expected, at its end"),
        ("plate == 'a' dose > 1", "'and', 'or' or the end is expected, at character 14: dose > 1"),
        ("0 < dose < 5", "'and', 'or' or the end is expected, at character 10: < 5"),
        ("plate in ()", r"is expected, at character 11: \)"),
        ("plate is 'a'", "'null' is expected, at character 10"),
        ("plate == 'a' && dose > 1", "write 'and', at character 14"),
        ("__import__('os').system('x')", "a comparison is expected.*at character 11"),
        ("(" * 60 + "dose == 1" + ")" * 60, "more than 50 levels are too deep"),
        ("not " * 60 + "dose == 1", "more than 50 levels are too deep"),
        ("dose == 1 or " * 100, "1,300 characters, more than 1,000"),
        ("plate\n==\n\x00", "a text in quotes or a number is expected"),
    ],
)
def test_bad_syntax_is_told_in_one_line_with_its_place(expression: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message) as refused:
        parse(expression)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("plat == 'a'", "no column 'plat'; there are plate, `moa-fine`, dose, part"),
        ("plate == 3", "column 'plate' holds texts, which cannot be compared with the number 3; put .* quotes: '3'"),
        ("dose in (1, 'a')", "column 'dose' holds numbers, which cannot be compared with the text 'a'"),
        ("dose == true", "column 'dose' holds numbers, which cannot be compared with true or false"),
    ],
)
def test_what_cannot_be_compared_is_named(expression: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        check_columns(parse(expression), {field.name: field.type for field in TYPES}, "--where")
