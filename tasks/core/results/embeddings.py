"""The table of cells in files: as Parquet in parts, and as CSV in one file, or in parts where the rows are many."""

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, chain, groupby
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from tasks.core.results.delivery import CSV_PARTS, EMBEDDINGS_CSV, PARQUET_PARTS, part_name

# Rows of a part: at the usual 50 components some 300 MB of Parquet.
PART_ROWS = 1_000_000
# Of a row group; a part's are few, whatever the size of the partitions that the cells come from.
_GROUP_BYTES = 2**25
_FORMULA = r"^[=+\-@\t\r]"


def parts_of(rows: Sequence[int], part_rows: int = PART_ROWS) -> list[slice]:
    """Give which pieces, of so many rows, each part has: it ends with the piece that brings it to `part_rows`."""
    first_rows = [0, *accumulate(rows)][: len(rows)]
    groups = groupby(range(len(rows)), lambda at: first_rows[at] // part_rows)
    return [slice(of[0], of[-1] + 1) for of in (list(group) for _, group in groups)]


def write_part(tables: Iterable[pa.Table], folder: Path, number: int, *, has_csv: bool) -> None:
    """Write a part of the table, which comes piece by piece; no more than a row group and a piece is in memory.

    Args:
        tables: the pieces, at least one, of the same columns.
        folder: where the files go: `embeddings/part-00000.parquet`, and `embeddings-csv/part-00000.csv`.
        number: of the part.
        has_csv: whether there is a CSV file of the part, with a header.
    """
    parquet, csv = folder / part_name(PARQUET_PARTS, number), folder / part_name(CSV_PARTS, number)
    groups = _row_groups(tables)
    first = next(groups)
    # A dictionary of numbers that are all different takes more room than the numbers.
    repeated = [field.name for field in first.schema if not pa.types.is_floating(field.type)]
    parquet.parent.mkdir()
    with pq.ParquetWriter(parquet, first.schema, use_dictionary=repeated) as writer:
        for group in chain([first], groups):
            writer.write_table(group)
            if has_csv:
                csv.parent.mkdir(exist_ok=True)
                _append_csv(group, csv)


def write_csv(tables: Iterable[pa.Table], folder: Path) -> None:
    """Write all of the table as `embeddings.csv`."""
    for group in _row_groups(tables):
        _append_csv(group, folder / EMBEDDINGS_CSV)


def harmless(table: pl.DataFrame) -> pl.DataFrame:
    """Put an apostrophe before texts that a spreadsheet would run as a formula; numbers stay as they are."""
    texts = pl.col(pl.String)
    is_formula = texts.str.contains(_FORMULA) & texts.cast(pl.Float64, strict=False).is_null()
    names = {name: f"'{name}" for name in table.columns if re.match(_FORMULA, name)}
    return table.with_columns(pl.when(is_formula).then("'" + texts).otherwise(texts).name.keep()).rename(names)


def _row_groups(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    waiting: list[pa.Table] = []
    for table in tables:
        waiting.append(table)
        if sum(piece.nbytes for piece in waiting) >= _GROUP_BYTES:
            yield pa.concat_tables(waiting)
            waiting = []
    if waiting:
        yield pa.concat_tables(waiting)


def _append_csv(table: pa.Table, path: Path) -> None:
    with path.open("ab") as file:
        harmless(pl.DataFrame(table)).write_csv(file, include_header=file.tell() == 0)
