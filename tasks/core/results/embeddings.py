"""The table of cells in files: as Parquet in parts, and as CSV in one file, or in parts where the rows are many."""

import re
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, groupby
from pathlib import Path
from typing import BinaryIO

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from tasks.core.results.delivery import CSV_PARTS, EMBEDDINGS_CSV, PARQUET_PARTS, part_name

# Rows of a part: at the usual 50 components some 300 MB of Parquet.
PART_ROWS = 1_000_000
# Of a row group; a part's are few, whatever the size of the partitions that the cells come from.
_GROUP_BYTES = 2**25
_FORMULA = r"^[=+\-@\t\r]"


def write_embeddings(
    tables: Iterable[pa.Table], folder: Path, *, csv_in_parts: bool, part_rows: int = PART_ROWS
) -> None:
    """Write a table that comes piece by piece; no more of it than a row group and a piece is in memory.

    Args:
        tables: the pieces, at least one, of the same columns.
        folder: where the files go: `embeddings/part-00000.parquet` and so on, and `embeddings.csv`, or
            `embeddings-csv/part-00000.csv` and so on, with the same rows as the Parquet file of that number.
        csv_in_parts: whether the CSV is in parts, each with a header.
        part_rows: a part ends with the piece that brings it to so many rows.
    """
    for number, (_, of_part) in enumerate(groupby(tables, _part_of(part_rows))):
        parquet = folder / part_name(PARQUET_PARTS, number)
        csv = folder / (part_name(CSV_PARTS, number) if csv_in_parts else EMBEDDINGS_CSV)
        for path in (parquet, csv):
            path.parent.mkdir(exist_ok=True)
        _write_part(_row_groups(of_part), parquet, csv)


def harmless(table: pl.DataFrame) -> pl.DataFrame:
    """Put an apostrophe before texts that a spreadsheet would run as a formula; numbers stay as they are."""
    texts = pl.col(pl.String)
    is_formula = texts.str.contains(_FORMULA) & texts.cast(pl.Float64, strict=False).is_null()
    names = {name: f"'{name}" for name in table.columns if re.match(_FORMULA, name)}
    return table.with_columns(pl.when(is_formula).then("'" + texts).otherwise(texts).name.keep()).rename(names)


def _part_of(part_rows: int) -> Callable[[pa.Table], int]:
    """Give what tells, of one piece after the other, which part it begins in."""
    rows = 0

    def part(table: pa.Table) -> int:
        nonlocal rows
        first, rows = rows, rows + int(table.num_rows)
        return first // part_rows

    return part


def _row_groups(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    waiting: list[pa.Table] = []
    for table in tables:
        waiting.append(table)
        if sum(piece.nbytes for piece in waiting) >= _GROUP_BYTES:
            yield pa.concat_tables(waiting)
            waiting = []
    if waiting:
        yield pa.concat_tables(waiting)


def _write_part(groups: Iterator[pa.Table], parquet: Path, csv: Path) -> None:
    first = next(groups)
    # A dictionary of numbers that are all different takes more room than the numbers.
    repeated = [field.name for field in first.schema if not pa.types.is_floating(field.type)]
    with pq.ParquetWriter(parquet, first.schema, use_dictionary=repeated) as writer, csv.open("ab") as file:
        for group in chain([first], groups):
            writer.write_table(group)
            _write_csv(group, file)


def _write_csv(table: pa.Table, file: BinaryIO) -> None:
    harmless(pl.DataFrame(table)).write_csv(file, include_header=file.tell() == 0)
