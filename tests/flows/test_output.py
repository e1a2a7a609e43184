"""What a run does to the folder that it leaves its results in."""

from functools import partial
from pathlib import Path
from uuid import uuid4

import polars as pl
import pytest
from prefect.client.schemas.objects import FlowRun
from prefect.states import Crashed

from flows.cluster_cells import cluster_cells
from flows.endings import settle_mark
from tasks.core.base.errors import CorruptObjectError, StoreError
from tasks.core.base.settings import Settings
from tasks.core.results import results
from tasks.core.results.embeddings import parts_of
from tasks.core.results.results import may_write
from tasks.core.storage.runs import RunMarker, marks
from tasks.core.storage.store import Store
from tests.flows.conftest import Run

SIZES = {"samples": 60, "pca_dim": 3, "clusters": 2}


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_user_s_own_files_are_named_before_any_work_and_left_alone(run: Run, dataset: Path, tmp_path: Path) -> None:
    output = tmp_path / "output"
    for name in ("report.html", "clusters.csv", "embeddings/part-00005.parquet", "embeddings/notes.txt"):
        (output / name).parent.mkdir(parents=True, exist_ok=True)
        (output / name).write_text("mine")
    before = content(output)
    ran = run(dataset=dataset, **SIZES)
    assert ran.code == 1
    (line,) = (line for line in ran.err.splitlines() if line.startswith("error: "))
    assert "'clusters.csv', 'embeddings/part-00005.parquet', 'report.html'; move them, or choose another" in line
    assert content(output) == before
    assert content(tmp_path / "store").keys() == set()
    for name in ("report.html", "clusters.csv", "embeddings/part-00005.parquet"):
        (output / name).unlink()
    assert run(dataset=dataset, **SIZES).code == 0


def test_what_a_run_may_write_is_known_before_it_begins(run: Run, dataset: Path) -> None:
    asked = SIZES | {"series": "weekly", "export": "h5ad", "csv_rows": 10}
    names = may_write(Settings.model_validate(asked))
    made = {output["name"] for output in run(dataset=dataset, **asked).record["outputs"]}
    assert {name[: name.find("/") + 1] or name for name in made} == {*names} - {"embeddings.csv"}


def test_the_results_are_there_before_intermediates_are_given_up(
    run: Run, dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise StoreError("the store is gone")

    monkeypatch.setattr("flows.carry_out.keep_only", fail)
    ran = run(dataset=dataset, keep_intermediates="none", **SIZES)
    assert (ran.code, ran.record["read"]["cells"]) == (1, 60)


def test_stages_that_run_again_leave_nothing_of_the_first_attempt(
    run: Run, dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    last_step = "tasks.core.results.results._write_genes"
    write_genes = results._write_genes

    def damaged_once(store: object, fit: object, folder: Path) -> None:
        monkeypatch.setattr(last_step, write_genes)
        (folder / "genes.csv").write_text("of the first attempt")
        raise CorruptObjectError("an object is damaged")

    monkeypatch.setattr(last_step, damaged_once)
    ran = run(dataset=dataset, **SIZES)
    assert ran.record["damaged"] == ["an object is damaged"]
    assert not (ran.output / "genes.csv").exists()
    assert len(pl.read_csv(ran.output / "embeddings.csv")) == 60


def test_a_run_that_finds_the_same_leaves_the_results_as_they_are(run: Run, dataset: Path, tmp_path: Path) -> None:
    def seen() -> dict[str, tuple[int, bytes]]:
        files = (path for path in (tmp_path / "output").rglob("*") if path.is_file())
        return {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in files}

    first = run(dataset=dataset, **SIZES)
    before = seen()
    again = run(dataset=dataset, **SIZES)
    assert (again.code, again.out) == (0, first.out)
    assert "export: done, found in the output" in again.err
    assert seen() == before
    # Whatever the record tells of is part of them.
    assert run(dataset=dataset, workers=3, **SIZES).record["settings"]["workers"] == 3
    assert seen().keys() == before.keys()
    assert {name for name, (_, data) in seen().items() if data != before[name][1]} <= {"run.json", "report.html"}


def test_parts_that_a_run_has_written_are_found_by_the_next_one(
    run: Run, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise StoreError("no place is left")

    sizes = SIZES | {"partition_cells": 10}
    whole = run(dataset=dataset, output=tmp_path / "whole", **sizes)
    monkeypatch.setattr("flows.partitions.parts_of", partial(parts_of, part_rows=20))
    with monkeypatch.context() as context:
        context.setattr("tasks.core.results.delivery.deliver", fail)
        failed = run(dataset=dataset, csv_rows=0, **sizes)
    assert (failed.code, (failed.output / "run.json").exists()) == (1, False)
    again = run(dataset=dataset, csv_rows=0, **sizes)
    # Three parts, and the tables; the report tells of this run.
    assert (again.code, again.steps("cached")["export"]) == (0, 4)
    assert pl.read_parquet(again.output / "embeddings").equals(pl.read_parquet(whole.output / "embeddings"))
    assert [path.name for path in sorted((again.output / "embeddings-csv").iterdir())] == [
        f"part-0000{at}.csv" for at in range(3)
    ]
    assert not (again.output / ".results").exists()


def test_results_of_which_one_is_gone_are_written_again(run: Run, dataset: Path) -> None:
    made = run(dataset=dataset, **SIZES)
    before, first = content(made.output), made.record["origin"]["run"]
    (made.output / "clusters.csv").unlink()
    again = run(dataset=dataset, **SIZES)
    after = content(made.output)
    assert {name for name in before if after[name] != before[name]} <= {"run.json", "report.html"}
    assert again.record["origin"]["run"] != first


def test_a_run_that_repaired_something_says_so_and_the_next_one_does_not(
    run: Run, dataset: Path, tmp_path: Path
) -> None:
    made = run(dataset=dataset, **SIZES)
    (normalized, *_) = (tmp_path / "store" / "normalization").glob("*/*.arrow")
    normalized.write_bytes(bytes(normalized.stat().st_size))
    # Which is read by another SVD alone.
    repaired = run(dataset=dataset, **SIZES | {"pca_dim": 2})
    assert (made.code, len(repaired.record["damaged"]), repaired.record["content"]) == (0, 1, None)
    assert not run(dataset=dataset, **SIZES | {"pca_dim": 2}).record["damaged"]


def test_a_run_that_is_gone_is_settled_by_what_a_form_had_sent(tmp_path: Path, prefect_server: None) -> None:
    asked = {"where": "", "store": str(tmp_path), "work": {"workers": "", "seed": 3}}
    gone = FlowRun(flow_id=uuid4(), parameters=asked)
    RunMarker(Store(str(tmp_path)), Settings(), str(gone.id)).begin()
    settle_mark(cluster_cells, gone, Crashed(message="no process"))
    ((_, mark),) = marks(Store(str(tmp_path)))
    assert (mark.ended, mark.why) == (True, "Crashed: no process")
