"""Conditions on metadata against polars, and their messages."""

import datetime
import operator
from decimal import Decimal
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
from tasks.core.dataset.where import Where

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
    escaped = value.replace("'", "''")
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
    assert Where(pair[0]).holds(table).nonzero()[0].tolist() == expected


@given(conditions, rows)
def test_no_row_group_with_a_match_is_ruled_out(
    tmp_path_factory: pytest.TempPathFactory, pair: Pair, cells: list[dict[str, Any]]
) -> None:
    condition, table = Where(pair[0]), pa.Table.from_pylist(cells, schema=TYPES)
    path = tmp_path_factory.getbasetemp() / "groups.parquet"
    pq.write_table(table, path, row_group_size=2)
    with open_shard(Place(str(path.parent)), path.name) as shard:
        for group in range(len(shard.group_rows)):
            bounds = {name: shard.bounds(group, name) for name in condition.columns}
            assert condition.may_hold(bounds) or not condition.holds(table[2 * group :][:2]).any()
            rows = {name: set(table[name][2 * group :][:2].to_pylist()) for name in bounds}
            assert all({bounds[name].low} == rows[name] for name in bounds if bounds[name].constant)


@pytest.mark.parametrize(
    ("expression", "may"),
    [
        ("plate = 'plate2'", True),
        ("plate in ('plate1', 'plate3')", False),
        ("plate like '%3' and dose > 1", False),
        ("not plate = 'plate2' or dose > 1", True),
        ("dose > 5 or plate <> 'plate2'", False),
        ("5 < dose", False),
        ("dose between 6 and 9", False),
        ("dose = 3.5", True),
        ("dose = 6", False),
        ("gap is null and plate > 'plate1'", True),
        ("gap = 'x' or dose < 0", False),
    ],
)
def test_statistics_tell_what_a_row_group_may_hold(tmp_path: Path, expression: str, may: bool) -> None:
    table = pa.table({"plate": ["plate2"] * 3, "dose": [1, 3, 5], "gap": pa.nulls(3, pa.string())})
    pq.write_table(table, tmp_path / "one.parquet")
    condition = Where(expression)
    with open_shard(Place(str(tmp_path)), "one.parquet") as shard:
        assert condition.may_hold({name: shard.bounds(0, name) for name in condition.columns}) == may


def test_numbers_that_are_none_are_larger_than_all_others(tmp_path: Path) -> None:
    table = pa.table({"x": [float("nan"), 1.0]})
    pq.write_table(table, tmp_path / "nan.parquet")
    for expression, expected in {"x != 1": [True, False], "x < 9": [False, True], "x >= 1": [True, True]}.items():
        assert Where(expression).holds(table).tolist() == expected
        with open_shard(Place(str(tmp_path)), "nan.parquet") as shard:
            assert Where(expression).may_hold({"x": shard.bounds(0, "x")})


@pytest.mark.parametrize(
    ("expression", "rows"),
    [
        ("plate LIKE 'p%' AND dose BETWEEN 1 AND 2", [0, 1]),
        ("upper(plate) = 'P1' or dose is null", [0, 3]),
        ("`moa-fine` <> 'a'", [1, 3]),
        ("\"moa-fine\" NOT IN ('a')", [1, 3]),
        ("day >= date '2024-02-01'", [1]),
        ("part = 1.50", [0]),
        ("case when dose > 1 then true else false end", [1, 2]),
    ],
)
def test_sql_over_all_types(expression: str, rows: list[int]) -> None:
    table = pa.table(
        {
            "plate": pa.array(["p1", "p2", "q", None], pa.large_string()),
            "moa-fine": pa.array(["a", "b", "a", "c"], pa.string_view()),
            "dose": pa.array([1, 2, 3, None], pa.float32()),
            "day": pa.array([datetime.date(2024, 1, 31), datetime.date(2024, 2, 29), None, None]),
            "part": pa.array([Decimal("1.50"), Decimal("1.51"), None, None], pa.decimal128(38, 2)),
        }
    )
    condition = Where(expression)
    condition.check({field.name: field.type for field in table.schema})
    assert condition.holds(table).nonzero()[0].tolist() == rows


@pytest.mark.parametrize(
    "expression",
    [
        *("plate =", "plate = 'a", "(plate = 'a'", "plate = 'a' dose > 1", "plate is 'a'", "plate = 'a' && dose > 1"),
        *("__import__('os').system('x')", "(" * 60 + "dose = 1" + ")" * 60, "not " * 60 + "dose = 1", "plate\n=\n\x00"),
        *("", "true", "1 = 1", "*", "read_csv('/etc/passwd') is null", "plate in (select 1)", "exists(select 1)"),
        *(
            "plate in (from read_parquet('x'))",
            "exists(from\nread_csv('x'))",
            "plate in (with a as (from read_csv('x')) from a)",
        ),
        *("count(*) > 1", "dose > avg(dose)", "row_number() over (order by dose) > 1", "first(plate) = 'a'"),
        *(
            "$$'$$ = (select a from read_parquet('x')) or '' = ''",
            "E'\\'' = (select 1) or plate = ''",
            "1 -- '\nselect '",
        ),
        *("dose = 1 or " * 100 + "dose = 2", "dose = 1; drop table x", "plate in (select a from read_parquet('x'))"),
    ],
)
def test_what_is_no_condition_on_a_row_is_refused_in_one_line(expression: str) -> None:
    with pytest.raises(SettingsError, match="--where") as refused:
        Where(expression)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("plat = 'a'", "no column 'plat'; there are plate, `moa-fine`, dose, part; texts stand in single quotes"),
        ('plate = "a"', "no column 'a'.*; texts stand in single quotes"),
        ("plate = 3", "cannot compare string with numeric type .*; plate is string"),
        ("dose = 'a'", "cannot compare string with numeric type .*; dose is int64"),
        ("dose", "it is neither true nor false; compare it"),
    ],
)
def test_what_cannot_be_compared_is_named(expression: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message) as refused:
        Where(expression).check({field.name: field.type for field in TYPES})
    assert "\n" not in str(refused.value)
