"""Conditions on the metadata of cells: for each row of a table, and for what a row group may hold.

As in SQL, a comparison with a null is neither true nor false, and rows for which a condition is not true are left out.
"""

import operator
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal
from functools import reduce
from itertools import product
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tasks.core.base.errors import SettingsError
from tasks.core.dataset.bounds import Bounds
from tasks.core.dataset.kinds import is_number, is_text

Value = str | bool | int | Decimal
# What a condition may come out as: true, false or, of a null, neither.
Outcomes = frozenset[bool | None]

# Of as many digits as any number that Arrow has.
_EXACT = Context(prec=77)
_COMPARED: dict[str, Callable[[Any, Any], Any]] = {
    "==": pc.equal,
    "<": pc.less,
    "<=": pc.less_equal,
    ">": pc.greater,
    ">=": pc.greater_equal,
}
_ORDERED: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


class Condition(Protocol):
    """A condition on a cell's metadata."""

    @property
    def compared(self) -> tuple[tuple[str, Value | None], ...]:
        """Columns, each with a value that it is compared with, or None where it may be of any type."""

    def mask(self, table: pa.Table) -> Any:
        """For each row true, false or null."""

    def outcomes(self, bounds: Mapping[str, Bounds]) -> Outcomes:
        """All that rows within these bounds may come out as; more only where the bounds do not tell."""


@dataclass(frozen=True)
class Compare:
    """A column compared with a value: `==`, `<`, `<=`, `>` or `>=`."""

    column: str
    operator: str
    value: Value

    @property
    def compared(self) -> tuple[tuple[str, Value | None], ...]:
        """The column and the value."""
        return ((self.column, self.value),)

    def mask(self, table: pa.Table) -> Any:
        """For each row true, false or null."""
        column = table.column(self.column)
        if is_number(column.type):
            return _COMPARED[self.operator](*_comparable(column, self.operator, Decimal(self.value)))
        return _COMPARED[self.operator](column, pa.scalar(self.value))

    def outcomes(self, bounds: Mapping[str, Bounds]) -> Outcomes:
        """All that rows within these bounds may come out as."""
        known = bounds[self.column]
        possible: set[bool | None] = {None} if known.nulls else set()
        if known.values:
            possible |= {True, False} if known.low is None else self._between(known.low, known.high)
            # A number that is none compares as false.
            possible |= {False} if known.nans else set()
        return frozenset(possible)

    def _between(self, low: Any, high: Any) -> set[bool]:
        value = float(str(self.value)) if isinstance(low, float) else self.value
        if self.operator == "==":
            return {low <= value <= high, low == value == high}
        holds = _ORDERED[self.operator]
        return {holds(low, value), holds(high, value)}


@dataclass(frozen=True)
class IsNull:
    """Whether a column is null."""

    column: str

    @property
    def compared(self) -> tuple[tuple[str, Value | None], ...]:
        """The column, of any type."""
        return ((self.column, None),)

    def mask(self, table: pa.Table) -> Any:
        """For each row true or false."""
        return pc.is_null(table.column(self.column))

    def outcomes(self, bounds: Mapping[str, Bounds]) -> Outcomes:
        """All that rows within these bounds may come out as."""
        known = bounds[self.column]
        return frozenset(outcome for outcome, may_be in ((True, known.nulls), (False, known.values)) if may_be)


@dataclass(frozen=True)
class Not:
    """What another condition is not; of a null, neither."""

    condition: Condition

    @property
    def compared(self) -> tuple[tuple[str, Value | None], ...]:
        """As in the other condition."""
        return self.condition.compared

    def mask(self, table: pa.Table) -> Any:
        """For each row true, false or null."""
        return pc.invert(self.condition.mask(table))

    def outcomes(self, bounds: Mapping[str, Bounds]) -> Outcomes:
        """All that rows within these bounds may come out as."""
        return frozenset(None if out is None else not out for out in self.condition.outcomes(bounds))


@dataclass(frozen=True)
class Several:
    """Conditions joined by `and` or by `or`, with nulls as SQL has them."""

    word: str
    conditions: tuple[Condition, ...]

    @property
    def compared(self) -> tuple[tuple[str, Value | None], ...]:
        """As in all of them."""
        return tuple(pair for condition in self.conditions for pair in condition.compared)

    def mask(self, table: pa.Table) -> Any:
        """For each row true, false or null."""
        join = pc.and_kleene if self.word == "and" else pc.or_kleene
        return reduce(join, (condition.mask(table) for condition in self.conditions))

    def outcomes(self, bounds: Mapping[str, Bounds]) -> Outcomes:
        """All that rows within these bounds may come out as, if the conditions had nothing to do with each other."""
        each = (condition.outcomes(bounds) for condition in self.conditions)
        return reduce(lambda left, right: frozenset(map(self._join, product(left, right))), each)

    def _join(self, outcomes: tuple[bool | None, ...]) -> bool | None:
        decides = self.word == "or"
        if decides in outcomes:
            return decides
        return None if None in outcomes else not decides


def _comparable(column: Any, sign: str, value: Decimal) -> tuple[Any, Any]:
    """Give a column of numbers and a number as what Arrow compares without rounding either; with floats, as a float."""
    if pa.types.is_floating(column.type):
        return column, pa.scalar(float(value))
    digits, places = (column.type.precision, column.type.scale) if pa.types.is_decimal(column.type) else (20, 0)
    # One digit more than any value of the column has, for a number that is beyond all of them, or between two.
    kind, beyond = pa.decimal256(digits + 1, places), Decimal(10) ** (digits - places)
    near = max(-beyond, min(beyond, value))
    to = ROUND_CEILING if sign in ("<", ">=") else ROUND_FLOOR
    rounded = near.quantize(Decimal(1).scaleb(-places), to, _EXACT)
    return column.cast(kind), pa.scalar(beyond if sign == "==" and rounded != near else rounded, kind)


def columns_of(condition: Condition) -> tuple[str, ...]:
    """Columns that a condition is about, each once."""
    return tuple(dict.fromkeys(column for column, _ in condition.compared))


def rows_that_match(condition: Condition, table: pa.Table) -> npt.NDArray[np.bool_]:
    """(rows,) whether the condition is true."""
    mask = pc.fill_null(condition.mask(table), False)
    matching: npt.NDArray[np.bool_] = mask.to_numpy() if isinstance(mask, pa.ChunkedArray) else np.asarray(mask)
    return matching


def check_columns(condition: Condition, kinds: Mapping[str, pa.DataType], given: str) -> None:
    """Refuse a condition on columns that are not there, or that compares what cannot be compared.

    Raises:
        SettingsError: names the column, and what there is.
    """
    for column, value in condition.compared:
        if column not in kinds:
            raise SettingsError(f"{given}: there is no column '{column}'; there are {_listed(kinds)}")
        problem = None if value is None else _mismatch(value, kinds[column])
        if problem:
            raise SettingsError(f"{given}: column '{column}' holds {problem}")


def _mismatch(value: Value, kind: pa.DataType) -> str | None:
    if isinstance(value, bool):
        fits, wrong = pa.types.is_boolean(kind), "true or false"
    elif isinstance(value, str):
        fits, wrong = is_text(kind), f"the text '{value}'"
    else:
        fits, wrong = is_number(kind), f"the number {value}"
    if fits:
        return None
    held = "texts" if is_text(kind) else "numbers" if is_number(kind) else f"values of type {kind}"
    hint = f"; put the number in quotes: '{value}'" if held == "texts" and not isinstance(value, str) else ""
    return f"{held}, which cannot be compared with {wrong}{hint}"


def _listed(names: Iterable[str]) -> str:
    # As the expression has to spell them.
    return ", ".join(name if name.isidentifier() else f"`{name}`" for name in names)
