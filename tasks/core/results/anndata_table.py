"""A table of an AnnData file (`obs`, `var`), written partition by partition."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import h5py
import numpy as np
import polars as pl

from tasks.core.base.errors import DataError

# Texts of a column beyond which it is no set of categories, and is not kept in memory.
MOST_CATEGORIES = 65_535
# From it on float64 does not hold all integers.
_EXACT = 2**53
# Values in a chunk: some hundred kilobytes, of which a reader of few cells takes few.
_CHUNK = 2**17
# What a name of a column must not have, or be, in the file.
_FORBIDDEN = re.compile(r"[/\x00]")
_RESERVED = ("", ".", "..", "_index")


@dataclass(frozen=True)
class TableRows:
    """Rows of a table.

    Attributes:
        rows: gives them from the first on, in tables of the same columns, each time it is called.
        length: how many they are.
        categories: columns that become categories whatever their type.
        index: column that names the rows, if none of its texts is null; else they are numbered.
    """

    rows: Callable[[], Iterable[pl.DataFrame]]
    length: int
    categories: Sequence[str] = ()
    index: str | None = None


class Filling:
    """An array of the file that is filled from its first row on.

    Args:
        group: that it is in.
        name: of the array.
        shape: of it.
        dtype: of its values; None for texts.
        is_described: whether it says of itself what it is, as all do but the parts of a sparse matrix.
    """

    def __init__(
        self, group: Any, name: str, shape: tuple[int, ...], dtype: Any = None, *, is_described: bool = True
    ) -> None:
        across = max(int(np.prod(shape[1:])), 1)
        self._name, self._at = f"{group.name}/{name}".lstrip("/"), 0
        self._array = group.create_dataset(
            name,
            shape=shape,
            dtype=h5py.string_dtype() if dtype is None else dtype,
            chunks=(max(1, min(shape[0], _CHUNK // across)), *shape[1:]),
            # Without a maximum, HDF5 has no chunks for no rows.
            maxshape=(None, *shape[1:]),
            # Any reader of HDF5 knows gzip; its first level takes a third of the time of the usual one.
            compression="gzip",
            compression_opts=1,
            shuffle=dtype is not None,
            track_times=False,
        )
        if is_described:
            describe(self._array, "array" if dtype is not None else "string-array", "0.2.0")

    def put(self, piece: Any) -> None:
        """Write the next rows; those that there is no place for are counted, no more."""
        stop = self._at + len(piece)
        if len(piece) and stop <= self._array.shape[0]:
            self._array[self._at : stop] = piece
        self._at = stop

    def check(self) -> None:
        """Raise DataError unless there were as many rows as places."""
        if self._at != self._array.shape[0]:
            raise DataError(
                f"{self._name} has {self._at:,} values for {self._array.shape[0]:,} places: the parts of the results "
                "do not fit together"
            )


def describe(element: Any, kind: str, version: str, **attributes: Any) -> None:
    """Say of a group or an array how it is encoded.

    See https://anndata.readthedocs.io/en/stable/fileformat-prose.html for the kinds and their versions.
    """
    for name, value in {"encoding-type": kind, "encoding-version": version, **attributes}.items():
        element.attrs[name] = value


@dataclass
class _Column:
    """What is known of a column once all of it has passed by."""

    dtype: pl.DataType
    is_forced: bool
    texts: set[str] = field(default_factory=set)
    nulls: int = 0
    is_exact: bool = True

    def see(self, values: pl.Series) -> None:
        """Take note of some of its values."""
        self.nulls += values.null_count()
        if self.dtype.is_integer():
            self.is_exact &= not (values.cast(pl.Float64).abs() >= _EXACT).any()
        if len(self.texts) <= MOST_CATEGORIES and (self.is_forced or not _is_number(self.dtype)):
            self.texts.update(as_texts(values).drop_nulls().unique().to_list())

    @property
    def number_type(self) -> np.dtype[Any] | None:
        """Type of its numbers or flags; None where it is one of texts."""
        has_no_place = self.nulls and (self.dtype == pl.Boolean or not self.is_exact)
        if self.is_forced or has_no_place or not (_is_number(self.dtype) or self.dtype == pl.Boolean):
            return None
        # Integers cannot be missing.
        is_wide = self.dtype.is_integer() and self.nulls > 0
        return np.dtype(np.float64) if is_wide else pl.Series([], dtype=self.dtype).to_numpy().dtype

    def is_category(self, rows: int) -> bool:
        """Whether its texts are few enough, and some occur again or are missing."""
        is_varied = len(self.texts) > MOST_CATEGORIES or (len(self.texts) == rows and not self.nulls)
        return self.is_forced or not (_is_number(self.dtype) or is_varied)


def write_table(root: Any, name: str, table: TableRows) -> None:
    """Write a table in two passes over its rows: one to know the columns, one to write them.

    Texts become categories, in natural order, where there are at most 65,535 of them and some occur again or are
    missing, and plain texts otherwise, a missing one empty. Integers with nulls become float64, with NaN, or plain
    texts where that does not hold them; decimals and times become texts. What the name of a column must not have in
    the file is replaced by `_`, and NUL in texts by U+FFFD.

    Raises:
        DataError: there are not so many rows.
    """
    columns = _look(table)
    index = table.index if table.index in columns and not columns[table.index].nulls else None
    held = [column for column in columns if column != index]
    keys = safe_names(held)
    index_key = "_index" if index is None else safe_names([*keys, index])[-1]
    group = root.create_group(name)
    describe(group, "dataframe", "0.2.0", **{"_index": index_key, "column-order": keys})
    rows = Filling(group, index_key, (table.length,))
    writers = [_writer(group, key, columns[column], table.length) for column, key in zip(held, keys, strict=True)]
    start = 0
    for part in table.rows():
        rows.put(_objects(pl.int_range(start, start + len(part), eager=True) if index is None else part[index]))
        for column, (filling, converted) in zip(held, writers, strict=True):
            filling.put(converted(part[column]))
        start += len(part)
    for filling in (rows, *(filling for filling, _ in writers)):
        filling.check()


def safe_names(names: Iterable[str]) -> list[str]:
    """Give names that can be keys of a file, each another."""
    safe: list[str] = []
    for name in names:
        wanted = _FORBIDDEN.sub("_", name)
        while wanted in safe or wanted in _RESERVED:
            wanted += "_"
        safe.append(wanted)
    return safe


def natural_order(texts: Iterable[str]) -> list[str]:
    """Sort texts as people do: plate2 before plate10."""
    return sorted(texts, key=lambda text: (_parts(text), text))


def as_texts(values: pl.Series) -> pl.Series:
    """Give values as texts, times with all their digits; HDF5 ends a text at NUL."""
    if values.dtype == pl.Time:
        return values.dt.to_string("%H:%M:%S%.9f")
    return values.cast(pl.String).str.replace_all("\x00", "\ufffd", literal=True)


def _parts(text: str) -> list[Any]:
    # Every other one is a number: like is compared with like.
    return [int(part) if at % 2 else part for at, part in enumerate(re.split("([0-9]{1,18})", text))]


def _is_number(dtype: pl.DataType) -> bool:
    return dtype.is_numeric() and not dtype.is_decimal()


def _look(table: TableRows) -> dict[str, _Column]:
    columns: dict[str, _Column] = {}
    for part in table.rows():
        for values in part:
            columns.setdefault(values.name, _Column(values.dtype, values.name in table.categories)).see(values)
    return columns


def _writer(group: Any, key: str, column: _Column, length: int) -> tuple[Filling, Callable[[pl.Series], Any]]:
    """Make the place of a column, and what turns its values into what is written there."""
    kind = column.number_type
    if kind is not None:
        return Filling(group, key, (length,), kind), lambda part: part.to_numpy().astype(kind)
    if not column.is_category(length):
        return Filling(group, key, (length,)), _objects
    texts = natural_order(column.texts)
    inner = group.create_group(key)
    describe(inner, "categorical", "0.2.0", ordered=False)
    categories = Filling(inner, "categories", (len(texts),))
    categories.put(np.array(texts, dtype=object))
    codes = Filling(inner, "codes", (length,), np.min_scalar_type(-max(len(texts), 1)))
    return codes, partial(_codes, known=pl.Enum(texts))


def _codes(part: pl.Series, known: pl.Enum) -> Any:
    return as_texts(part).cast(known).to_physical().cast(pl.Int64).fill_null(-1).to_numpy()


def _objects(values: pl.Series) -> Any:
    return np.array(as_texts(values).fill_null("").to_list(), dtype=object)
