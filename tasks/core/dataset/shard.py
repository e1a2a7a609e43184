"""Footers, row groups and small tables of a dataset, by themselves: what is to be known before cells stream."""

import hashlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from tasks.core.dataset.bounds import Bounds
from tasks.core.dataset.reading import BLOCK_BYTES, translated


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
        group_rows: rows of each of its row groups.
        schema: its Arrow schema.
    """

    def __init__(self, dataset: str, name: str, file: Any, info: dict[str, Any]) -> None:
        self.name = name
        self._dataset = dataset
        self._info = info
        self._file = pq.ParquetFile(file)
        self._footer = self._file.metadata
        self._columns = {self._footer.schema.column(at).path: at for at in range(self._footer.num_columns)}
        self.group_rows = tuple(self._footer.row_group(index).num_rows for index in range(self._footer.num_row_groups))
        self.schema: pa.Schema = self._footer.schema.to_arrow_schema()

    def describe(self) -> Shard:
        """Give what is known of the shard from its footer alone."""
        info = self._info
        footer = pa.BufferOutputStream()
        self._footer.write_metadata_file(footer)
        made_of = [self.name, info["size"], info.get("blob_id") or info.get("mtime"), footer.getvalue().to_pybytes()]
        fingerprint = hashlib.sha256(repr(made_of).encode()).hexdigest()[:32]
        return Shard(self.name, fingerprint, self.group_rows, self.schema)

    def bounds(self, group: int, column: str) -> Bounds:
        """Bounds of a column in a row group, as the footer has them."""
        chunk = self._footer.row_group(group).column(self._columns[column])
        kind, rows = self.schema.field(column).type, self.group_rows[group]
        return Bounds.of(chunk.statistics if chunk.is_stats_set else None, kind, rows)

    def read(self, group: int, schema: pa.Schema) -> pa.Table:
        """Read columns of a row group, and nothing else, as these types.

        Raises:
            DataError: they cannot be decoded.
        """
        with translated(self._dataset, f"shard {self.name}, row group {group:,}: its {', '.join(schema.names)}"):
            table = self._file.read_row_group(group, columns=schema.names, use_threads=False)
            return table.select(schema.names).cast(schema)


@contextmanager
def open_shard(url: str, dataset: str) -> Iterator[OpenShard]:
    """Open a shard, and read its footer.

    Raises:
        DataError: the footer cannot be read.
        SourceError: the file cannot be reached.
    """
    name = name_within(url, dataset)
    with ExitStack() as stack:
        with translated(dataset, f"shard {name}: its parquet footer"):
            fs, path = fsspec.core.url_to_fs(url)
            info = fs.info(path)
            file = stack.enter_context(fs.open(path, "rb", block_size=BLOCK_BYTES))
            opened = OpenShard(dataset, name, file, info)
        yield opened


def read_table(dataset: str, revision: str | None, name: str) -> pa.Table | None:
    """Read one of the dataset's own tables, `metadata/NAME.parquet`; None where it has none of this name.

    Raises:
        DataError: it cannot be decoded.
        SourceError: it cannot be reached.
    """
    root = dataset if Path(dataset).is_dir() else f"hf://datasets/{dataset}@{revision}"
    with translated(dataset, f"its table '{name}'"):
        fs, path = fsspec.core.url_to_fs(f"{root}/metadata/{name}.parquet")
        try:
            with fs.open(path, "rb") as file:
                return pq.read_table(file)
        except FileNotFoundError:
            return None


def name_within(url: str, dataset: str) -> str:
    """Path of a shard in its dataset, from its URL or path."""
    if url.startswith("hf://"):
        return url.partition("@")[2].partition("/")[2]
    return url.rpartition(f"{dataset.rstrip('/')}/")[2]
