from collections.abc import Callable
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.flows.conftest import Run
from tests.small_dataset import Cell, cell, gene_table, random_cells, table_of, write_dataset

SIZES = {"samples": 60, "pca_dim": 5, "clusters": 2}


def with_cell(bad: Cell) -> Callable[[Path], Path]:
    """A dataset whose second shard has a bad cell in its row 12."""

    def write(folder: Path) -> Path:
        cells = random_cells(60, 40)
        cells[42] = bad
        return write_dataset(folder, [table_of(cells[:30]), table_of(cells[30:])], gene_table(40))

    return write


def without_column(folder: Path) -> Path:
    return write_dataset(folder, [table_of(random_cells(60, 40)).drop_columns(["expressions"])], gene_table(40))


def without_vocabulary(folder: Path) -> Path:
    made = write_dataset(folder, [table_of(random_cells(60, 40))], gene_table(40))
    (made / "metadata" / "gene_metadata.parquet").unlink()
    return made


def with_truncated_shard(folder: Path) -> Path:
    cells = random_cells(60, 40)
    made = write_dataset(folder, [table_of(cells[:30]), table_of(cells[30:])], gene_table(40))
    shard = made / "data" / "train-00001-of-00002.parquet"
    shard.write_bytes(shard.read_bytes()[:-50])
    return made


def with_corrupt_page(folder: Path) -> Path:
    cells = random_cells(60, 40)
    made = write_dataset(folder, [table_of(cells[:30]), table_of(cells[30:])], gene_table(40))
    shard = made / "data" / "train-00001-of-00002.parquet"
    data = bytearray(shard.read_bytes())
    data[40:400] = b"\xff" * 360
    shard.write_bytes(data)
    return made


def with_foreign_shard(folder: Path) -> Path:
    made = write_dataset(folder, [table_of(random_cells(30, 40))] * 2, gene_table(40))
    pq.write_table(pa.table({"x": [1, 2]}), made / "data" / "train-00001-of-00002.parquet")
    return made


BAD_DATA = {
    "lengths differ": (
        with_cell(Cell([1, 3, 4], [-2.0, 1.0])),
        "row 12: its 'genes' and 'expressions' differ in length",
    ),
    "unknown token": (with_cell(cell({43: 1.0})), "row 12: a token outside the vocabulary: 43"),
    "negative count": (with_cell(cell({3: -1.0})), "row 12: a count that is not from 0"),
    "fractional count": (with_cell(cell({3: 0.5})), "row 12: a count that is not whole: 0.5"),
    "NaN": (with_cell(cell({3: float("nan")})), "row 12: a count that is not from 0 to 16,777,216: nan"),
    "infinite count": (with_cell(cell({3: float("inf")})), "row 12: a count that is not from 0 to 16,777,216: inf"),
    "no marker": (with_cell(Cell([3], [1.0])), "row 12: does not begin with the marker"),
    "no column": (without_column, "has no column 'expressions'"),
    "no vocabulary": (without_vocabulary, "metadata/gene_metadata.parquet, is not there"),
    "truncated shard": (with_truncated_shard, "train-00001-of-00002.parquet"),
    "corrupt page": (with_corrupt_page, "train-00001-of-00002.parquet, rows from 0 on"),
    "foreign shard": (with_foreign_shard, "train-00001-of-00002.parquet"),
}


@pytest.mark.parametrize("problem", BAD_DATA)
def test_bad_data_gives_one_line_and_no_output(run: Run, tmp_path: Path, problem: str) -> None:
    write, message = BAD_DATA[problem]
    ran = run(dataset=write(tmp_path / "dataset"), **SIZES)
    errors = [line for line in ran.err.splitlines() if line.startswith("error: ")]
    assert ran.code == 1
    assert len(errors) == 1
    assert message in errors[0]
    assert "Traceback" not in ran.err
    assert not list(ran.output.glob("*"))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"samples": 0}, "--samples 0"),
        ({"pca_dim": 40}, "--pca_dim 40: a matrix of 60 cells and 40 genes allows at most 39 components"),
        ({"clusters": 61}, "--clusters 61: there are only 60 cells"),
        ({"settings_file": "nowhere.toml"}, "--settings_file nowhere.toml"),
        ({"store": "s3://id:secret@bucket/x"}, "credentials do not belong in a URL"),
    ],
)
def test_bad_settings_give_one_line_and_no_output(
    run: Run, dataset: Path, flags: dict[str, object], message: str
) -> None:
    ran = run(**{"dataset": dataset} | SIZES | flags)
    errors = [line for line in ran.err.splitlines() if line.startswith("error: ")]
    assert ran.code == 2
    assert len(errors) == 1
    assert message in errors[0]
    assert "secret@" not in ran.err
    assert not list(ran.output.glob("*"))


def test_a_dataset_that_is_not_there_is_told_with_what_works_offline(run: Run, tmp_path: Path) -> None:
    ran = run(dataset=tmp_path / "nowhere")
    assert ran.code == 1
    assert "nowhere" in ran.err
    assert "--dataset synthetic, works without a network" in ran.err


def test_an_output_that_cannot_be_written_is_told_before_any_work(run: Run, dataset: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    ran = run(dataset=dataset, output=tmp_path / "file" / "below", **SIZES)
    assert ran.code == 1
    assert "error: cannot write" in ran.err
    assert "streaming" not in ran.err


def test_cells_without_counts_are_kept_and_counted(run: Run, tmp_path: Path) -> None:
    cells = [*random_cells(58, 40), cell({}), cell({})]
    ran = run(dataset=write_dataset(tmp_path / "dataset", [table_of(cells)], gene_table(40)), **SIZES)
    assert ran.code == 0
    assert ran.record["read"]["empty_cells"] == 2
    last = (ran.output / "embeddings.csv").read_text().splitlines()[-1]
    assert last.split(",")[2:7] == ["0.0"] * 5


def test_repeated_pairs_are_summed_and_counted(run: Run, tmp_path: Path) -> None:
    cells = random_cells(60, 40)
    cells[5] = Cell([1, 3, 4, 3], [-2.0, 1.0, 1.0, 1.0])
    ran = run(dataset=write_dataset(tmp_path / "dataset", [table_of(cells)], gene_table(40)), **SIZES)
    assert ran.record["read"]["repeated_pairs_summed"] == 1


SKIPPABLE = [problem for problem in BAD_DATA if problem not in ("no column", "no vocabulary", "foreign shard")]


@pytest.mark.parametrize("problem", SKIPPABLE)
def test_bad_data_may_be_skipped_and_is_told_everywhere(run: Run, tmp_path: Path, problem: str) -> None:
    write, message = BAD_DATA[problem]
    ran = run(dataset=write(tmp_path / "dataset"), on_bad_data="skip", most_skipped=0.6, **SIZES)
    assert ran.code == 3
    bad = ran.record["bad_data"]
    assert message in bad[0]["reason"]
    assert bad[0]["shard"] == "data/train-00001-of-00002.parquet"
    skipped = sum(one["rows"] for one in bad)
    assert ran.record["read"] | {"cells": 60 - skipped, "skipped_cells": skipped} == ran.record["read"]
    assert f"{skipped} BAD CELLS WERE SKIPPED" in ran.out
    cells = pl.read_csv(ran.output / "embeddings.csv")
    assert cells.height == 60 - skipped


def test_only_the_bad_cells_are_skipped(run: Run, tmp_path: Path) -> None:
    cells = random_cells(60, 40)
    for at in (3, 41, 42):
        cells[at] = cell({43: 1.0}, drug=f"bad {at}")
    dataset = write_dataset(tmp_path / "dataset", [table_of(cells[:30]), table_of(cells[30:])], gene_table(40))
    ran = run(dataset=dataset, on_bad_data="skip", most_skipped=0.05, **SIZES)
    assert [(one["shard"][11:16], one["row"]) for one in ran.record["bad_data"]] == [
        ("00000", 3),
        ("00001", 11),
        ("00001", 12),
    ]
    drugs = pl.read_csv(ran.output / "embeddings.csv")["drug"].to_list()
    assert drugs == [one.metadata["drug"] for at, one in enumerate(cells) if at not in (3, 41, 42)]


def test_more_bad_cells_than_allowed_fail_the_run(run: Run, tmp_path: Path) -> None:
    cells = random_cells(60, 40)
    cells[3] = cells[4] = cell({43: 1.0})
    dataset = write_dataset(tmp_path / "dataset", [table_of(cells)], gene_table(40))
    ran = run(dataset=dataset, on_bad_data="skip", **SIZES)
    assert ran.code == 1
    assert "error: 2 of 60 cells are bad, more than --most_skipped 0.01 of them: shard" in ran.err
    assert not list(ran.output.glob("*"))


def test_what_was_skipped_once_still_fails_a_run_that_is_not_to_skip(run: Run, tmp_path: Path) -> None:
    write, message = BAD_DATA["NaN"]
    dataset = write(tmp_path / "dataset")
    assert run(dataset=dataset, on_bad_data="skip", most_skipped=0.1, **SIZES).code == 3
    strict = run(dataset=dataset, **SIZES)
    assert strict.code == 1
    assert message in strict.err
