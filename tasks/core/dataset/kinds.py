"""Types of columns: what a table of cells can hold of all that parquet has, and how a shard's values become that."""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tasks.core.base.errors import DataError, first_line

_SECONDS = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
_DAY = 86_400
# Days since 1970 of the years that every reader of dates knows: 1 to 9999.
_FIRST_DAY, _LAST_DAY = -719_162, 2_932_896
# Of what readers of tables know as a decimal.
_MOST_DIGITS = 38
_DECIMAL = re.compile(r"decimal128\((\d+), (\d+)\)")
_INSTANT = re.compile(r"timestamp\[(\w+), tz=UTC\]")


def table_kind(kind: pa.DataType) -> pa.DataType | None:
    """Type that a column of a shard has in a table of cells: one that CSV, Parquet and AnnData hold; None if none."""
    if isinstance(kind, pa.BaseExtensionType):
        return table_kind(kind.storage_type)
    if pa.types.is_dictionary(kind):
        return table_kind(kind.value_type)
    return next((held(kind) for is_such, held in _HELD if is_such(kind)), None)


def common_kind(kinds: Iterable[pa.DataType]) -> pa.DataType | None:
    """Type that a table gives a column which shards hold in these: one for all their values, or text; None if none."""
    # A column of nulls has whatever type the others give it.
    known = dict.fromkeys(kind for kind in kinds if not pa.types.is_null(kind)) or {pa.string(): None}
    held = dict.fromkeys(table_kind(kind) for kind in known)
    if None in held:
        return None
    if any(map(pa.types.is_decimal, held)) or (pa.uint64() in held and any(map(pa.types.is_signed_integer, held))):
        held = dict.fromkeys(map(_in_digits, held))
    try:
        schemas = [pa.schema([pa.field("", kind)]) for kind in held]
        common = pa.unify_schemas(schemas, promote_options="permissive").field(0).type
    except pa.ArrowTypeError:
        return pa.string()
    return pa.string() if any(_loses(kind, common) for kind in held) else table_kind(common)


def changes(kinds: Iterable[pa.DataType], kind: pa.DataType) -> str | None:
    """Say what one must know to read a column that shards hold in these types and a table in that one, if anything."""
    known = dict.fromkeys(kinds)
    if any(pa.types.is_duration(one) for one in known) and pa.types.is_floating(kind):
        return f"{_listed(known)}: in seconds"
    if any(pa.types.is_timestamp(one) and one.tz not in (None, "UTC") for one in known):
        return f"{_listed(known)}: in UTC"
    own = {table_kind(one) for one in known if not pa.types.is_null(one)}
    return f"{_listed(known)}: as {kind}" if len(own) > 1 else None


def conform(table: pa.Table, kinds: Mapping[str, pa.DataType], where: str) -> pa.Table:
    """Give columns of a shard's rows as a table of cells holds them; nulls where the shard has no such column.

    Raises:
        DataError: a value is not to be had in the type; begins with `where`, and names the column.
    """
    return pa.table({name: _column(table, name, kind, where) for name, kind in kinds.items()})


def check_values(table: pa.Table, where: str) -> None:
    """See that a table of cells, of types that it can hold, has values that readers of tables understand.

    Raises:
        DataError: a text is not UTF-8, or a time is none of years 1 to 9999; begins with `where`, and names the column.
    """
    for name, column in zip(table.column_names, table.columns, strict=True):
        if pa.types.is_string(column.type):
            if not is_utf8(column):
                raise DataError(f"{where}: its '{name}' is not UTF-8")
        elif pa.types.is_temporal(column.type) and len(column) > column.null_count:
            low, high = _bounds(column.type)
            ends = pc.min_max(column.cast(pa.int32() if pa.types.is_date(column.type) else pa.int64()))
            if ends["min"].as_py() < low or ends["max"].as_py() >= high:
                raise DataError(f"{where}: its '{name}' is no time of the years 1 to 9999")


def is_utf8(column: Any) -> bool:
    """Whether all texts of a column are; Arrow itself takes whatever bytes a file has."""
    try:
        column.validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def readable(table: pa.Table) -> pa.Table:
    """Give a table with U+FFFD where texts are not UTF-8."""
    for at, name in enumerate(table.column_names):
        column = table.column(at)
        if pa.types.is_string(column.type) and not is_utf8(column):
            texts = column.cast(pa.binary()).to_pylist()
            mended = [text if text is None else text.decode(errors="replace") for text in texts]
            table = table.set_column(at, name, pa.array(mended, pa.string()))
    return table


def kind_named(name: str) -> pa.DataType:
    """Type of a table of cells by its name, which is what `str` gives."""
    if decimal := _DECIMAL.fullmatch(name):
        return pa.decimal128(int(decimal[1]), int(decimal[2]))
    if instant := _INSTANT.fullmatch(name):
        return pa.timestamp(instant[1], "UTC")
    return pa.type_for_alias(name)


def is_text(kind: pa.DataType) -> bool:
    """Whether a column of this type holds texts."""
    if pa.types.is_dictionary(kind):
        return is_text(kind.value_type)
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def is_number(kind: pa.DataType) -> bool:
    """Whether a column of this type holds numbers."""
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def _column(table: pa.Table, name: str, kind: pa.DataType, where: str) -> Any:
    if name not in table.column_names:
        return pa.nulls(table.num_rows, kind)
    column = table.column(name)
    try:
        return pa.chunked_array([_as_kind(chunk, kind) for chunk in column.chunks], kind)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
        raise DataError(
            f"{where}: its '{name}' of type {column.type} is not to be had as {kind}: {first_line(error)}"
        ) from error


def _as_kind(values: Any, kind: pa.DataType) -> Any:
    if isinstance(values, pa.ExtensionArray):
        return _as_kind(values.storage, kind)
    if pa.types.is_dictionary(values.type):
        return _as_kind(values.dictionary_decode(), kind)
    if pa.types.is_duration(values.type):
        values = pc.divide(values.cast(pa.int64()).cast(pa.float64(), safe=False), float(_SECONDS[values.type.unit]))
    if pa.types.is_date64(values.type):
        # It counts milliseconds, and is to have whole days.
        values = values.cast(pa.timestamp("ms")).cast(pa.date32(), safe=False)
    # Text is of what a table has: a time with a zone in UTC.
    own = kind if pa.types.is_null(values.type) else table_kind(values.type)
    return values.cast(own or kind).cast(kind)


def _bounds(kind: pa.DataType) -> tuple[int, int]:
    """Least value of a time that readers know, and the first one that they do not."""
    if pa.types.is_date(kind):
        return _FIRST_DAY, _LAST_DAY + 1
    if pa.types.is_time(kind):
        return 0, _DAY * _SECONDS[kind.unit]
    return _FIRST_DAY * _DAY * _SECONDS[kind.unit], (_LAST_DAY + 1) * _DAY * _SECONDS[kind.unit]


def _in_digits(kind: pa.DataType) -> pa.DataType:
    """Type of decimals with as many digits as the integers of a type may have; any other as it is."""
    if not pa.types.is_integer(kind):
        return kind
    return pa.decimal128(len(str(2 ** (kind.bit_width - pa.types.is_signed_integer(kind)))), 0)


def _loses(kind: pa.DataType, common: pa.DataType) -> bool:
    """Whether there are values of a type that one to which Arrow would turn it does not have."""
    if pa.types.is_floating(common):
        return bool(pa.types.is_decimal(kind) or (pa.types.is_integer(kind) and kind.bit_width == 64))
    return bool(pa.types.is_timestamp(common) and common.unit == "ns" != kind.unit)


def _decimal(kind: pa.DataType) -> pa.DataType:
    return pa.decimal128(kind.precision, kind.scale) if kind.precision <= _MOST_DIGITS else pa.string()


def _timestamp(kind: pa.DataType) -> pa.DataType:
    return pa.timestamp("ms" if kind.unit == "s" else kind.unit, kind.tz and "UTC")


def _listed(kinds: Iterable[pa.DataType]) -> str:
    return " and ".join(map(str, kinds))


# Of each kind of types the one that a table has.
_HELD: tuple[tuple[Callable[[pa.DataType], bool], Callable[[pa.DataType], pa.DataType]], ...] = (
    (lambda kind: is_text(kind) or pa.types.is_null(kind), lambda _: pa.string()),
    (pa.types.is_decimal, _decimal),
    (pa.types.is_float16, lambda _: pa.float32()),
    (lambda kind: is_number(kind) or pa.types.is_boolean(kind), lambda kind: kind),
    (pa.types.is_duration, lambda _: pa.float64()),
    (pa.types.is_timestamp, _timestamp),
    (pa.types.is_date, lambda _: pa.date32()),
    (pa.types.is_time, lambda _: pa.time64("ns")),
)
