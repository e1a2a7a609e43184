"""The table of cells in parts."""

import shutil
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.core.results import embeddings
from tasks.core.results.embeddings import parts_of, write_csv, write_part


def pieces(number: int, rows: int = 7) -> Iterator[pa.Table]:
    """Tables of cells, each with the place of its cells among all."""
    for at in range(number):
        cell = np.arange(at * rows, (at + 1) * rows)
        texts = {"drug": [f"=drug{one % 3}" for one in cell]}
        yield pa.table(texts | {f"pc{to + 1}": (cell + to / 3).astype(np.float32) for to in range(2)})


def test_parts_hold_the_rows_of_the_one_file_in_their_order(tmp_path: Path) -> None:
    tables = list(pieces(9))
    for name in ("whole", "parts"):
        for number, of in enumerate(parts_of([7] * 9, part_rows=20)):
            (tmp_path / f"{number}").mkdir(exist_ok=True)
            write_part(tables[of], tmp_path / f"{number}", number, has_csv=name == "parts")
            shutil.copytree(tmp_path / f"{number}", tmp_path / name, dirs_exist_ok=True)
            shutil.rmtree(tmp_path / f"{number}")
    write_csv(tables, tmp_path / "whole")
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    names = [f"part-0000{at}" for at in range(3)]
    assert sorted(path.name for path in (whole / "embeddings").iterdir()) == [f"{name}.parquet" for name in names]
    assert not (whole / "embeddings-csv").exists()
    assert not (parts / "embeddings.csv").exists()

    cells = pl.concat([pl.DataFrame(piece) for piece in pieces(9)])
    assert pl.read_parquet(whole / "embeddings").equals(cells)
    one = (whole / "embeddings.csv").read_text().splitlines()
    several = [(parts / "embeddings-csv" / f"{name}.csv").read_text().splitlines() for name in names]
    assert [line for part in several for line in part[1:]] == one[1:]
    assert {part[0] for part in several} == {one[0]}
    for name in names:
        in_csv = pl.read_csv(parts / "embeddings-csv" / f"{name}.csv", schema=cells.schema)
        in_parquet = pl.read_parquet(parts / "embeddings" / f"{name}.parquet")
        assert in_csv.with_columns(pl.col("drug").str.strip_prefix("'")).equals(in_parquet)
        assert pq.ParquetFile(parts / "embeddings" / f"{name}.parquet").num_row_groups == 1


def test_memory_does_not_grow_with_the_number_of_cells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embeddings, "_GROUP_BYTES", 4_000_000)
    before, most = pa.total_allocated_bytes(), 0

    def watched() -> Iterator[pa.Table]:
        nonlocal most
        for at in range(100):
            # Arrow's own buffers, and those of numpy.
            most = max(most, pa.total_allocated_bytes() - before + tracemalloc.get_traced_memory()[0])
            yield pa.table({f"pc{to}": np.arange(at, at + 10_000, dtype=np.float64) for to in range(10)})

    tracemalloc.start()
    write_part(watched(), tmp_path, 0, has_csv=True)
    tracemalloc.stop()
    # Of 80 MB, a row group of 4 MB is written while the next one gathers, beside the writer's own buffers.
    assert 4e6 < most < 20e6
