"""Conditions on the metadata of cells, in SQL as polars reads it: which rows meet one, and which row groups cannot.

As in SQL, a comparison with a null is neither true nor false, and rows for which a condition is not true are left out.
"""

import json
import re
from collections.abc import Iterable, Mapping
from io import StringIO
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from tasks.core.base.errors import SettingsError, first_line
from tasks.core.dataset.bounds import Bounds

_MOST_CHARACTERS = 1_000
_QUOTED = re.compile(r"""(?<!\w)'(?:[^']|'')*'|"[^"]*"|`[^`]*`""")
# To parse a query within a condition opens the files that it names; of the others, each could hide one.
_QUERY = re.compile(r"\b(?:select|table|values|with|(?<!distinct )from)\b|--|/\*|\$|\w'|;", re.IGNORECASE)
# What looks at one row at a time: others would depend on how the rows are cut.
_FUNCTIONS = {"Sql", "StringExpr"}
_TESTS = {"Not", "IsNull", "IsNotNull", "IsIn", "IsBetween", "IsNan", "IsNotNan", "IsFinite", "IsInfinite"}
_PARTS = {"BinaryExpr": ("left", "right"), "Cast": ("expr",), "Ternary": ("predicate", "truthy", "falsy")}
_ORDERED = {"Lt", "LtEq", "Gt", "GtEq"}
Node = Any


class Where:
    """A condition on columns: `=`, `<>`, `<`, `IN`, `BETWEEN`, `LIKE`, `IS NULL`, joined by `AND`, `OR`, `NOT`.

    Names that are no words stand in backticks or double quotes (`moa-fine`), texts in single quotes; `==` and `!=` are
    taken as well.

    Args:
        given: the condition.

    Raises:
        SettingsError: it is none, or asks for more than one row at a time.
    """

    def __init__(self, given: str) -> None:
        self.given = as_given(given)
        if len(given) > _MOST_CHARACTERS:
            raise SettingsError(f"--where has {len(given):,} characters, more than {_MOST_CHARACTERS:,}")
        if found := _QUERY.search(" ".join(_QUOTED.sub("''", given).split())):
            raise SettingsError(f"{self.given}: a condition has no {found[0]!r}: it is about one row, and runs nothing")
        try:
            self._expr = pl.sql_expr(given)
            self._tree: Node = json.loads(self._expr.meta.serialize(format="json"))
        except pl.exceptions.PolarsError as error:
            raise SettingsError(f"{self.given}: {first_line(error)}") from None
        self.columns = tuple(dict.fromkeys(self._expr.meta.root_names()))
        if not self.columns or not _is_of_a_row(self._tree):
            raise SettingsError(
                f"{self.given}: a condition compares columns of the cells with texts in single quotes or numbers, "
                "row by row, such as plate = 'plate1' and dose > 0"
            )

    def check(self, kinds: Mapping[str, pa.DataType]) -> None:
        """Refuse columns that are not there, and what cannot be compared.

        Args:
            kinds: type of each column that there is.

        Raises:
            SettingsError: names the column, and what there is.
        """
        for name in self.columns:
            if name not in kinds:
                raise SettingsError(
                    f"{self.given}: there is no column '{name}'; there are {_listed(kinds)}; "
                    "texts stand in single quotes"
                )
        none = pl.DataFrame(pa.schema([(name, kinds[name]) for name in self.columns]).empty_table())
        try:
            made = none.select(self._expr).to_series().dtype
        except pl.exceptions.PolarsError as error:
            held = ", ".join(f"{name} is {kinds[name]}" for name in self.columns)
            raise SettingsError(f"{self.given}: {first_line(error)}; {held}") from None
        if made != pl.Boolean:
            raise SettingsError(f"{self.given}: it is neither true nor false; compare it, such as plate = 'plate1'")

    def holds(self, table: pa.Table) -> npt.NDArray[np.bool_]:
        """(rows,) whether the condition is true.

        Raises:
            SettingsError: a value of a row cannot be compared so.
        """
        rows = pl.DataFrame(table.select(list(self.columns)))
        try:
            return rows.select(self._expr).to_series().fill_null(False).to_numpy()
        except pl.exceptions.PolarsError as error:
            raise SettingsError(f"{self.given}: {first_line(error)}") from None

    def may_hold(self, bounds: Mapping[str, Bounds]) -> bool:
        """Whether it may be true of a row within these bounds; false only where they rule that out."""
        return _may_hold(self._tree, bounds)


def as_given(expression: str | None) -> str:
    """Name an expression in a message, on one line."""
    return f"--where {' '.join((expression or '').split())}"


def _is_of_a_row(node: Node) -> bool:
    if not isinstance(node, dict):
        return False
    ((kind, body),) = node.items()
    if kind == "Function":
        ((family, function),) = body["function"].items() if isinstance(body["function"], dict) else (("", ""),)
        name = next(iter(function)) if isinstance(function, dict) else function
        known = family in _FUNCTIONS or (family == "Boolean" and name in _TESTS)
        return known and all(map(_is_of_a_row, body["input"]))
    return kind in ("Column", "Literal") or (kind in _PARTS and all(_is_of_a_row(body[part]) for part in _PARTS[kind]))


def _may_hold(node: Node, bounds: Mapping[str, Bounds]) -> bool:
    known = {name: bounds[name] for name in _columns(node)}
    if all(of.constant or not of.values for of in known.values()):
        return _holds(node, {name: [of.low if of.values else None] for name, of in known.items()})
    operator, left, right = _compared(node)
    if operator in ("And", "Or"):
        return (all if operator == "And" else any)(_may_hold(part, bounds) for part in (left, right))
    if len(known) == 1 and operator in _ORDERED | {"Eq"}:
        ((name, of),) = known.items()
        if of.low is not None and not of.nans and {"Column": name} in (left, right):
            ends = {name: [of.low, of.high]}
            either = [operator] if operator in _ORDERED else ["LtEq", "GtEq"]
            return all(_holds({"BinaryExpr": {"left": left, "op": one, "right": right}}, ends) for one in either)
    return True


def _compared(node: Node) -> tuple[str, Node, Node]:
    """Give what is compared, and how; nothing for what is no comparison."""
    ((kind, body),) = node.items()
    if kind == "BinaryExpr":
        return body["op"], body["left"], body["right"]
    if kind == "Function" and list(body["function"]) == ["Sql"] and "Binary" in body["function"]["Sql"]:
        return body["function"]["Sql"]["Binary"], *body["input"]
    return "", None, None


def _holds(node: Node, rows: Mapping[str, list[Any]]) -> bool:
    """Whether a condition is true of any of some rows, or cannot be told of."""
    try:
        # Numbers beyond those of JSON, for one, cannot be told of.
        condition = pl.Expr.deserialize(StringIO(json.dumps(node)), format="json")
        return bool(pl.DataFrame(rows).select(condition).to_series().any())
    except (pl.exceptions.PolarsError, TypeError, OverflowError):
        return True


def _columns(node: Node) -> set[str]:
    if isinstance(node, dict):
        named = {node["Column"]} if isinstance(node.get("Column"), str) else set()
        return named.union(*map(_columns, node.values()))
    return set().union(*map(_columns, node)) if isinstance(node, list) else set()


def _listed(names: Iterable[str]) -> str:
    # As the expression has to spell them.
    return ", ".join(name if name.isidentifier() else f"`{name}`" for name in names)
