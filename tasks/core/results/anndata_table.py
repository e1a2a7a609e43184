"""A table of an AnnData file (`obs`, `var`), written partition by partition."""

import hashlib
import re
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from tasks.core.dataset.kinds import LONGEST_NAME
from tasks.core.results.anndata_sink import Filling, fill, make_group, make_numbers, make_texts

# Texts of a column beyond which it is no set of categories, and is not kept in memory.
MOST_CATEGORIES = 65_535
# Of the texts that may name the rows.
_HASHES_AT_ONCE = 2**19
# From it on float64 does not hold all integers.
_EXACT = 2**53
# Digits up to which it gives back every decimal.
_EXACT_DIGITS = 15
_FORBIDDEN = re.compile(r"[/\\\x00-\x1f]")
_RESERVED = ("", ".", "..", "_index", ".zarray", ".zattrs", ".zgroup")
Rows = Callable[[], Iterable[pl.DataFrame]]


@dataclass(frozen=True)
class TableRows:
    """Rows of a table.

    Attributes:
        rows: gives them from the first on, in tables of the same columns, each time it is called.
        length: how many they are.
        categories: columns that become categories whatever their type.
        index: column that names the rows, if all its texts differ and none is null; else they are numbered.
    """

    rows: Rows
    length: int
    categories: Sequence[str] = ()
    index: str | None = None


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
        elif self.dtype.is_decimal():
            digits = as_texts(values).str.replace_all("[-.]", "").str.strip_chars("0").str.len_bytes()
            self.is_exact &= not (digits > _EXACT_DIGITS).any()
        is_text = self.is_forced or self.dtype.is_decimal() or not self.dtype.is_numeric()
        if is_text and len(self.texts) <= MOST_CATEGORIES:
            self.texts.update(as_texts(values).drop_nulls().unique().to_list())

    def is_category(self, rows: int) -> bool:
        """Whether its texts are few enough, and some occur again or are missing."""
        is_varied = len(self.texts) > MOST_CATEGORIES or (len(self.texts) == rows and not self.nulls)
        return self.is_forced or not (self.is_numbers or is_varied)

    @property
    def is_numbers(self) -> bool:
        """Whether NumPy has a number, or a flag, for each of its values."""
        is_flag = self.dtype == pl.Boolean and not self.nulls
        is_number = self.dtype.is_numeric() and (self.is_exact or not self.dtype.is_decimal())
        return not self.is_forced and (is_flag or is_number)

    @property
    def is_masked(self) -> bool:
        """Whether it has integers, some of them missing, that no float64 holds."""
        return self.is_numbers and self.dtype.is_integer() and self.nulls > 0 and not self.is_exact

    @property
    def number_type(self) -> np.dtype[Any]:
        """Type of its numbers: integers cannot be missing."""
        is_wide = self.dtype.is_decimal() or (self.dtype.is_integer() and self.nulls > 0)
        return np.dtype(np.float64) if is_wide else pl.Series([], dtype=self.dtype).to_numpy().dtype


def write_table(root: Any, name: str, table: TableRows, scratch: Path) -> None:
    """Write a table in two passes over its rows: one to know the columns, one to write them.

    Texts become categories, in natural order, where there are at most 65,535 of them and some occur again or are
    missing, and plain texts otherwise, a missing one empty. Integers with nulls become float64, with NaN, or integers
    with a mask where float64 does not hold them; decimals become float64, or texts where it does not. What the name of
    a column must not have in the file is replaced by `_`, what it has too much by a digest, and NUL in texts by U+FFFD.
    Whether the rows' names all differ is found in a folder in `scratch`, where it takes 8 bytes a row for a while.

    Raises:
        DataError: there are not so many rows.
    """
    columns, is_index = _look(table, scratch)
    index = table.index if is_index else None
    held = [column for column in columns if column != index]
    keys = safe_names(held)
    index_key = "_index" if index is None else safe_names([*keys, index])[-1]
    group = make_group(root, name, ("dataframe", "0.2.0"), {"_index": index_key, "column-order": keys})
    rows = Filling(make_texts(group, index_key, table.length), f"the index of {name}")
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
    """Give names that can be keys of a file, in Zarr names of folders, each another."""
    safe: list[str] = []
    for name in names:
        wanted = _FORBIDDEN.sub("_", name)
        if len(wanted.encode()) > LONGEST_NAME:
            kept = wanted.encode()[:LONGEST_NAME].decode(errors="ignore")
            wanted = f"{kept}_{hashlib.sha256(name.encode()).hexdigest()[:8]}"
        wanted = f"{wanted}_" if wanted in _RESERVED else wanted
        while wanted in safe:
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


def _look(table: TableRows, scratch: Path) -> tuple[dict[str, _Column], bool]:
    """Find what the columns are, and whether one of them names the rows.

    Texts are compared by their hashes: rows whose hashes agree by chance are numbered, no more.
    """
    columns: dict[str, _Column] = {}
    with tempfile.TemporaryDirectory(prefix=".names-", dir=scratch) as folder:
        names = _Hashes(Path(folder), table.length)
        for part in table.rows():
            for values in part:
                known = columns.setdefault(values.name, _Column(values.dtype, values.name in table.categories))
                known.see(values)
            if table.index in columns and not columns[table.index].nulls:
                names.put(as_texts(part[table.index]).hash(0).to_numpy())
        is_index = table.index in columns and not columns[table.index].nulls
        return columns, is_index and names.all_differ()


class _Hashes:
    """Hashes of texts in files, each of those in a range of equal width, so that equal ones are in one file.

    Args:
        folder: of the files.
        number: of hashes that are expected; no more than a file's are in memory.
    """

    def __init__(self, folder: Path, number: int) -> None:
        self._folder = folder
        self._bits = max((number // _HASHES_AT_ONCE).bit_length(), 1)
        self._waiting: list[npt.NDArray[np.uint64]] = []

    def put(self, hashes: npt.NDArray[np.uint64]) -> None:
        """Add some."""
        self._waiting.append(hashes)
        if sum(map(len, self._waiting)) >= _HASHES_AT_ONCE:
            self._flush()

    def all_differ(self) -> bool:
        """Say whether no two of them are equal."""
        self._flush()
        of_files = (np.sort(np.fromfile(path, np.uint64)) for path in self._folder.iterdir())
        return not any((hashes[1:] == hashes[:-1]).any() for hashes in of_files)

    def _flush(self) -> None:
        hashes = np.sort(np.concatenate([np.empty(0, np.uint64), *self._waiting]))
        self._waiting = []
        ends = np.arange(1, 2**self._bits, dtype=np.uint64) << np.uint64(64 - self._bits)
        for at, of_file in enumerate(np.split(hashes, np.searchsorted(hashes, ends))):
            with (self._folder / str(at)).open("ab") as file:
                of_file.tofile(file)


def _writer(group: Any, key: str, column: _Column, length: int) -> tuple[Filling, Callable[[pl.Series], Any]]:
    """Make the place of a column, and what turns its values into what is written there."""
    if column.is_category(length):
        return _categories(group, key, column, length)
    if column.is_masked:
        return _masked(group, key, column, length)
    if column.is_numbers:
        kind = column.number_type
        return Filling(make_numbers(group, key, (length,), kind), key), lambda part: _numbers(part).astype(kind)
    return Filling(make_texts(group, key, length), key), _objects


def _masked(group: Any, key: str, column: _Column, length: int) -> tuple[Filling, Callable[[pl.Series], Any]]:
    inner = make_group(group, key, ("nullable-integer", "0.1.0"))
    mask = Filling(make_numbers(inner, "mask", (length,), np.bool_), key)
    kind = pl.Series([], dtype=column.dtype).to_numpy().dtype

    def values(part: pl.Series) -> Any:
        mask.put(part.is_null().to_numpy())
        return part.fill_null(0).to_numpy()

    return Filling(make_numbers(inner, "values", (length,), kind), key), values


def _categories(group: Any, key: str, column: _Column, length: int) -> tuple[Filling, Callable[[pl.Series], Any]]:
    texts = natural_order(column.texts)
    inner = make_group(group, key, ("categorical", "0.2.0"), {"ordered": False})
    fill(make_texts(inner, "categories", len(texts)), [np.array(texts, dtype=object)], key)
    codes = make_numbers(inner, "codes", (length,), np.min_scalar_type(-max(len(texts), 1)))
    known = pl.Enum(texts)

    def coded(part: pl.Series) -> Any:
        return as_texts(part).cast(known).to_physical().cast(pl.Int64).fill_null(-1).to_numpy()

    return Filling(codes, key), coded


def _numbers(values: pl.Series) -> Any:
    # By way of the digits, which gives the float64 that is nearest.
    return (values.cast(pl.String).cast(pl.Float64) if values.dtype.is_decimal() else values).to_numpy()


def _objects(values: pl.Series) -> Any:
    return np.array(as_texts(values).fill_null("").to_list(), dtype=object)
