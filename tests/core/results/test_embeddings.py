"""The table of cells in parts, on a local disk and on S3, and what an earlier run had left there."""

import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.core.references.model import Output
from tasks.core.results import embeddings
from tasks.core.results.delivery import deliver, withdraw
from tasks.core.results.embeddings import write_embeddings
from tasks.core.storage.store import Store


def pieces(number: int, rows: int = 7) -> Iterator[pa.Table]:
    """Tables of cells, each with the place of its cells among all."""
    for at in range(number):
        cell = np.arange(at * rows, (at + 1) * rows)
        texts = {"drug": [f"=drug{one % 3}" for one in cell]}
        yield pa.table(texts | {f"pc{to + 1}": (cell + to / 3).astype(np.float32) for to in range(2)})


def test_parts_hold_the_rows_of_the_one_file_in_their_order(tmp_path: Path) -> None:
    for name, in_parts in (("whole", False), ("parts", True)):
        (tmp_path / name).mkdir()
        write_embeddings(pieces(9), tmp_path / name, csv_in_parts=in_parts, part_rows=20)
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
    write_embeddings(watched(), tmp_path, csv_in_parts=False)
    tracemalloc.stop()
    # Of 80 MB, a row group of 4 MB is written while the next one gathers, beside the writer's own buffers.
    assert 4e6 < most < 20e6


def put_results(place: str, folder: Path, cells: int, *more: str, csv_in_parts: bool = False) -> tuple[Output, ...]:
    """Leave results, and their record, in a place as a run does."""
    folder.mkdir()
    write_embeddings(pieces(cells), folder, csv_in_parts=csv_in_parts, part_rows=20)
    for name in more:
        (folder / name).write_text(f"{cells}")
    output = Store(place, patience=5)
    outputs = deliver(folder, output)
    withdraw(output, "run.json", [made.name for made in outputs])
    output.files.write("run.json", json.dumps({"outputs": [made.model_dump() for made in outputs]}).encode())
    return outputs


def there(place: str) -> set[str]:
    return {entry.path for entry in Store(place, patience=5).files.walk()}


def test_what_an_earlier_run_left_does_not_mix_with_the_new_results(place: str, tmp_path: Path) -> None:
    files = Store(place, patience=5).files
    not_ours = {"notes.csv", "embeddings/mine.parquet", "embeddings/part-1.parquet", "other/part-00000.parquet"}
    for name in not_ours:
        files.write(name, b"mine")
    put_results(place, tmp_path / "long", 9, "markers.csv", "genes.csv", "notes.txt")
    # Somebody has written a file of this name since.
    files.write("genes.csv", b"edited")
    last = put_results(place, tmp_path / "short", 3, csv_in_parts=True)
    assert {made.name for made in last} == {"embeddings-csv/part-00000.csv", "embeddings/part-00000.parquet"}
    left = there(place) - not_ours
    assert left == {*(made.name for made in last), "run.json", "genes.csv", "notes.txt"}
    # A run that was killed before it left its record.
    files.write("embeddings/part-00007.parquet", b"of a longer run")
    put_results(place, tmp_path / "whole", 3)
    assert there(place) - not_ours == {
        *("embeddings.csv", "embeddings/part-00000.parquet"),
        *("run.json", "genes.csv", "notes.txt"),
    }
    assert all(files.read(name) == b"mine" for name in not_ours)


@pytest.mark.parametrize(
    "record", [b"", b"[]", b"{", b'{"outputs": 3}', b'{"outputs": [{"name": "../run.json", "size": 2, "sha256": ""}]}']
)
def test_a_record_that_is_none_withdraws_nothing(tmp_path: Path, record: bytes) -> None:
    output = Store(str(tmp_path / "output"))
    (tmp_path / "run.json").write_bytes(b"{}")
    output.files.write("run.json", record)
    withdraw(output, "run.json", [])
    assert (tmp_path / "run.json").exists()
    assert there(output.url) == {"run.json"}
