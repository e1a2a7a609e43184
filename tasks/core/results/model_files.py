"""The files of a saved model: read as far as they are what they claim to be."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tasks.core.base.errors import ModelError, first_line
from tasks.core.numerics.block import NumberArray
from tasks.core.references.model import Output
from tasks.core.results.record import RECORD
from tasks.core.results.tables import component_names
from tasks.core.storage.files import Files

# More than any model that this project makes; what claims to be larger is not read.
_MOST_BYTES = 2**30
REMEDY = "--model takes the output folder of a run that fitted a model"


class ModelTable:
    """A Parquet file of a model, its bytes those that the record lists; its columns are checked as they are read."""

    def __init__(self, files: Files, listed: Output, most_rows: int) -> None:
        self.where = files.locate(listed.name)
        data = read_whole(files, listed.name, listed.size)
        digest = hashlib.sha256(data).hexdigest()
        if digest != listed.sha256:
            raise ModelError(
                f"{self.where} is damaged: its sha256 is {digest}, and {RECORD} lists {listed.sha256[:64]!a}"
            )
        with self._decoding():
            self.file = pq.ParquetFile(pa.BufferReader(data))
        if self.file.metadata.num_rows > most_rows:
            raise ModelError(f"{self.where} has {self.file.metadata.num_rows:,} rows, more than {most_rows:,}")

    def column(self, name: str, kind: pa.DataType) -> pa.ChunkedArray:
        """Give a column without nulls as one of this type."""
        with self._decoding():
            column = self._read([name]).column(name).cast(kind)
            # Texts may be no UTF-8.
            column.validate(full=True)
        return column

    def matrix(self, columns: int, kind: pa.DataType) -> NumberArray:
        """Give the (rows, columns) numbers of the components, all finite, of exactly this type."""
        table = self._read(component_names(columns))
        if any(column.type != kind for column in table.columns):
            raise ModelError(f"{self.where} has components that are not of type {kind}")
        matrix = np.stack([column.to_numpy() for column in table.columns], axis=1)
        if not np.isfinite(matrix).all():
            raise ModelError(f"{self.where} has numbers that are not finite")
        return matrix

    def _read(self, names: Sequence[str]) -> pa.Table:
        with self._decoding():
            wrong = [name for name in names if self.file.schema_arrow.names.count(name) != 1]
            if wrong:
                raise ModelError(f"{self.where} has no column '{wrong[0]}', or more than one")
            table = self.file.read(columns=list(names), use_threads=False)
        if any(column.null_count for column in table.columns):
            raise ModelError(f"{self.where} has nulls in '{names[0]}' or the columns beside it")
        return table

    @contextmanager
    def _decoding(self) -> Iterator[None]:
        try:
            yield
        except ModelError:
            raise
        except (pa.ArrowException, OSError, ValueError) as error:
            raise ModelError(f"{self.where} cannot be decoded: {first_line(error)}") from error


def size_of(files: Files, name: str) -> int:
    """Size of a file in bytes.

    Raises:
        ModelError: it is not there, or larger than that of any model.
    """
    size = files.size(name)
    if size is None:
        raise ModelError(f"there is no {files.locate(name)}: {REMEDY}")
    if size > _MOST_BYTES:
        raise ModelError(f"{files.locate(name)} has {size:,} bytes, more than the {_MOST_BYTES:,} of any model")
    return size


def read_whole(files: Files, name: str, size: int) -> bytes:
    """Give a file's bytes.

    Raises:
        ModelError: they are not so many.
    """
    data = files.read(name)
    if data is None or len(data) != size:
        raise ModelError(f"{files.locate(name)} changed while it was read: try again")
    return data
