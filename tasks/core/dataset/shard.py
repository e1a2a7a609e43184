"""Footers and rows of a dataset's parquet files, page by page: what is to be known, and read, of one by itself."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tasks.core.base.errors import DataError, SourceError
from tasks.core.dataset.bounds import Bounds
from tasks.core.dataset.kinds import is_text
from tasks.core.dataset.place import Place, table_name
from tasks.core.dataset.reading import decoding, translated

# Rows decoded at a time: Tahoe's row groups have as many.
_BATCH_ROWS = 1_000
# Row groups that are no more than this together are fetched at once, for a request takes long on a network; of larger
# ones, and of each of their columns, a buffer at a time.
_FETCHED_BYTES, _BUFFER_BYTES = 2**24, 2**22


@dataclass(frozen=True)
class Shard:
    """One parquet file of cells.

    Attributes:
        name: its path within the dataset.
        fingerprint: changes when the file does.
        group_rows: rows of each of its row groups.
        schema: its Arrow schema.
    """

    name: str
    fingerprint: str
    group_rows: tuple[int, ...]
    schema: pa.Schema


class OpenShard:
    """A shard whose footer is read, and of which row groups can be.

    Attributes:
        name: its path within the dataset.
        place: of the dataset.
        group_rows: rows of each of its row groups.
        schema: its Arrow schema.
    """

    def __init__(self, place: Place, name: str, file: Any, version: str) -> None:
        self.name = name
        self.place = place
        self._version = version
        self._file = file
        self._footer = pq.ParquetFile(file, pre_buffer=False).metadata
        self._groups = [self._footer.row_group(index) for index in range(self._footer.num_row_groups)]
        self.group_rows = tuple(group.num_rows for group in self._groups)
        self.schema: pa.Schema = self._footer.schema.to_arrow_schema()
        twice = [one for one in self.schema.names if self.schema.names.count(one) > 1]
        if twice:
            raise DataError(f"shard {name} has two columns '{twice[0]}'")
        self._columns = _columns(self.schema)
        self._categories = _categories(self.schema)

    def describe(self) -> Shard:
        """Give what is known of the shard from its footer alone."""
        footer = pa.BufferOutputStream()
        self._footer.write_metadata_file(footer)
        made_of = [self.name, self._version, footer.getvalue().to_pybytes()]
        fingerprint = hashlib.sha256(repr(made_of).encode()).hexdigest()[:32]
        return Shard(self.name, fingerprint, self.group_rows, self.schema)

    @property
    def bytes(self) -> int:
        """Size of all its columns."""
        columns = range(self._footer.num_columns)
        return sum(group.column(at).total_compressed_size for group in self._groups for at in columns)

    def values(self, column: str) -> int:
        """How many values a column holds, in lists or not."""
        return sum(group.column(at).num_values for group in self._groups for at in self._columns.get(column, ()))

    def bounds(self, group: int, column: str) -> Bounds:
        """Bounds of a column that is not nested in a row group, as the footer has them."""
        chunk = self._groups[group].column(self._columns[column].start)
        kind, rows = self.schema.field(column).type, self.group_rows[group]
        return Bounds.of(chunk.statistics if chunk.is_stats_set else None, kind, rows)

    def batches(self, groups: Sequence[int], columns: Sequence[str]) -> Iterator[pa.Table]:
        """Yield the rows of some row groups, in few at a time, whatever the size of the row groups.

        Columns that the shard does not have are left out.
        """
        there = [name for name in columns if name in self.schema.names]
        if not there:
            yield from (pa.table({"": pa.nulls(self.group_rows[group])}) for group in groups)
            return
        for some, size in self._fetched(groups, there):
            at_once = size <= _FETCHED_BYTES
            file = pq.ParquetFile(
                self._file,
                metadata=self._footer,
                read_dictionary=self._categories,
                pre_buffer=at_once,
                buffer_size=0 if at_once else _BUFFER_BYTES,
            )
            with decoding(max(self._groups[group].total_byte_size for group in some)):
                for batch in file.iter_batches(_BATCH_ROWS, row_groups=some, columns=there, use_threads=False):
                    # A name with a dot may bring columns whose names begin with what is before it.
                    yield _without_views(pa.Table.from_batches([batch]).select(there))

    def _fetched(self, groups: Sequence[int], columns: Sequence[str]) -> Iterator[tuple[list[int], int]]:
        """Row groups that are fetched together, and their bytes."""
        wanted = [at for name in columns for at in self._columns[name]]
        together: list[int] = []
        total = 0
        for group in groups:
            size = sum(self._groups[group].column(at).total_compressed_size for at in wanted)
            if together and total + size > _FETCHED_BYTES:
                yield together, total
                together, total = [], 0
            together.append(group)
            total += size
        if together:
            yield together, total


@contextmanager
def open_shard(place: Place, name: str) -> Iterator[OpenShard]:
    """Open a shard, and read its footer.

    Raises:
        DataError: the footer cannot be read.
        SourceError: the file cannot be reached, or was changed while it was open.
    """
    with ExitStack() as stack:
        with translated(place.name, f"shard {name}: its parquet footer"):
            before = place.version(name)
            opened = OpenShard(place, name, stack.enter_context(place.open(name)), before)
        yield opened
    with translated(place.name, f"shard {name}"):
        if not place.is_on_hub and place.version(name) != before:
            raise changed(place, name)


def _columns(schema: pa.Schema) -> dict[str, range]:
    """Where among parquet's columns those are that make up each: by path, part of a struct may be taken for another."""
    sizes = [_parts(field.type) for field in schema]
    begins = accumulate(sizes, initial=0)
    return {name: range(at, at + size) for name, at, size in zip(schema.names, begins, sizes, strict=False)}


def _parts(kind: pa.DataType) -> int:
    """How many columns parquet makes of one of this type."""
    kind = kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind
    return sum(_parts(kind.field(at).type) for at in range(kind.num_fields)) if pa.types.is_nested(kind) else 1


def _categories(schema: pa.Schema) -> list[int]:
    """Columns to be read as categories: unless told so, Arrow refuses all where the text of one is not UTF-8."""
    columns = _columns(schema)
    return [columns[one.name].start for one in schema if pa.types.is_dictionary(one.type) and is_text(one.type)]


def _without_views(table: pa.Table) -> pa.Table:
    """Give texts as a type of which Arrow can take some."""
    views = (at for at, field in enumerate(table.schema) if pa.types.is_string_view(field.type))
    for at in views:
        table = table.set_column(at, table.column_names[at], table.column(at).cast(pa.string()))
    return table


def changed(place: Place, name: str) -> SourceError:
    """Give the error that tells of a file that is another than the plan saw."""
    return SourceError(f"'{place.name}' changed during the run: shard {name} is not what it was; run again")


def read_table(place: Place, table: str) -> pa.Table | None:
    """Read one of the dataset's own tables, `metadata/TABLE.parquet`; None where it has none of this name.

    Raises:
        UnreadableError: it cannot be decoded.
        SourceError: it cannot be reached.
    """
    with translated(place.name, f"its table '{table}'"):
        try:
            with place.open(table_name(table)) as file:
                footer = pq.ParquetFile(file).metadata
                categories = _categories(footer.schema.to_arrow_schema())
                # A thread of Arrow's that drops the last hold on Python's bytes while the process ends aborts it.
                return pq.ParquetFile(file, metadata=footer, read_dictionary=categories).read(use_threads=False)
        except FileNotFoundError:
            return None
