"""Looking after a store: what is in it, whether it is whole, and what may go."""

import os
import time
from pathlib import Path

import pytest

from flows.command_line import main
from tasks.core.base.settings import Settings
from tasks.core.results.housekeeping import prunable
from tasks.core.storage.files import Files
from tasks.core.storage.runs import RunMarker, marks
from tasks.core.storage.store import Store
from tests.flows.conftest import Run

SIZES = {"samples": 60, "pca_dim": 5, "clusters": 2}
DAY = 24 * 3600


def age(folder: Path, days: float) -> None:
    """Make a store look as if nothing had happened to it for so long."""
    then = time.time() - days * DAY
    for path in folder.rglob("*"):
        os.utime(path, (then, then))
    store = Store(str(folder))
    for name, mark in list(marks(store)):
        aged = mark.model_copy(update={"began": then, "seen": then})
        store.files.write(f"runs/{name}.json", aged.model_dump_json().encode())


def stages(folder: Path) -> set[str]:
    return {entry.path.partition("/")[0] for entry in Files(str(folder), 5).walk()}


def test_contents_are_listed_by_stage_and_by_run(
    run: Run, dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(dataset=dataset, **SIZES)
    assert main(["store", "ls", "--store", str(tmp_path / "store")]) == 0
    told = capsys.readouterr().out
    for name in ("streaming", "normalization", "svd", "samples 60", "ended", "kB"):
        assert name in told


def test_damage_is_found_told_and_made_again(
    run: Run, dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = run(dataset=dataset, **SIZES)
    store = tmp_path / "store"
    assert main(["store", "verify", "--store", str(store)]) == 0
    harmed = next((store / "matrix").rglob("00000.arrow"))
    whole = harmed.read_bytes()
    harmed.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert main(["store", "verify", "--store", str(store)]) == 1
    said = capsys.readouterr()
    assert f"error: {harmed} is damaged" in said.err
    assert "1 objects were damaged and put aside" in said.out
    again = run(dataset=dataset, output=tmp_path / "again", **SIZES)
    assert again.steps("made")["matrix"] == 1
    assert harmed.read_bytes() == whole
    assert (again.output / "embeddings.csv").read_bytes() == (first.output / "embeddings.csv").read_bytes()


def test_what_no_recent_run_used_is_pruned(run: Run, dataset: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    run(dataset=dataset, **SIZES | {"clusters": 3})
    Files(str(store), 5).write("leases/of-a-run-that-was-killed.json", b"")
    age(store, 40)
    run(dataset=dataset, **SIZES, output=tmp_path / "again")
    assert main(["store", "prune", "--store", str(store), "--dry_run"]) == 0
    assert set(prunable(Store(str(store)), 30)) == {
        str(path.relative_to(store))
        for path in (store / "clustering").iterdir()
        if path.stat().st_mtime < time.time() - DAY
    }
    assert main(["store", "prune", "--store", str(store)]) == 0
    assert "leases" not in stages(store)
    again = run(dataset=dataset, **SIZES, output=tmp_path / "third")
    assert set(again.steps("made")) == {"plan", "export", "report"}
    age(store, 40)
    assert main(["store", "prune", "--store", str(store)]) == 0
    assert stages(store) == set()


def test_nothing_is_pruned_while_a_run_is_at_work(
    run: Run, dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "store"
    run(dataset=dataset, **SIZES)
    age(store, 40)
    marker = RunMarker(Store(str(store)), Settings(dataset=str(dataset)))
    marker.beat()
    assert main(["store", "prune", "--store", str(store)]) == 1
    assert f"run {marker.name} is at work" in capsys.readouterr().err
    marker.end(None)
    assert main(["store", "prune", "--store", str(store)]) == 0


@pytest.mark.parametrize(
    ("keep", "left"),
    [("none", {"runs"}), ("counts", {"runs", "vocabulary", "streaming", "matrix", "gene_order"})],
)
def test_intermediates_are_kept_as_asked(run: Run, dataset: Path, tmp_path: Path, keep: str, left: set[str]) -> None:
    kept = run(dataset=dataset, keep_intermediates=keep, **SIZES)
    assert kept.code == 0
    assert stages(tmp_path / "store") == left
    again = run(dataset=dataset, output=tmp_path / "again", **SIZES)
    assert (again.output / "embeddings.csv").read_bytes() == (kept.output / "embeddings.csv").read_bytes()


def test_what_another_run_uses_is_kept_in_any_case(run: Run, dataset: Path, tmp_path: Path) -> None:
    run(dataset=dataset, **SIZES)
    before = {entry.path for entry in Files(str(tmp_path / "store"), 5).walk()}
    run(dataset=dataset, keep_intermediates="none", output=tmp_path / "again", **SIZES | {"clusters": 3})
    after = {entry.path for entry in Files(str(tmp_path / "store"), 5).walk()}
    assert before <= after
    assert {path.partition("/")[0] for path in after - before} == {"runs"}


def test_a_run_that_failed_is_no_longer_at_work(run: Run, dataset: Path, tmp_path: Path) -> None:
    assert run(dataset=dataset, **SIZES | {"clusters": 61}).code == 2
    assert not any(mark.is_running for _, mark in marks(Store(str(tmp_path / "store"))))
