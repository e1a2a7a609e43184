"""Looking after a store: what is in it, whether it is whole, and what may go."""

import os
import time
from pathlib import Path

import pytest

from flows.command_line import main
from tasks.core.base.settings import Settings
from tasks.core.results.housekeeping import prunable, survey
from tasks.core.storage.files import Files
from tasks.core.storage.runs import RunMarker, marks
from tasks.core.storage.store import MARKER, ObjectRef, Store
from tests.conftest import real_cells
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
    assert "1 objects were damaged: made again when needed" in said.out
    again = run(dataset=dataset, output=tmp_path / "again", **SIZES)
    assert again.steps("made")["matrix"] == 1
    assert harmed.read_bytes() == whole
    assert (again.output / "embeddings.csv").read_bytes() == (first.output / "embeddings.csv").read_bytes()


def test_what_no_recent_run_used_is_pruned(run: Run, dataset: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    run(dataset=dataset, **SIZES | {"clusters": 3})
    age(store, 40)
    run(dataset=dataset, **SIZES, output=tmp_path / "again")
    assert main(["store", "prune", "--store", str(store), "--dry_run"]) == 0
    assert set(prunable(Store(str(store)), survey(Store(str(store))), 30)) == {
        str(path.relative_to(store))
        for path in (store / "clustering").iterdir()
        if path.stat().st_mtime < time.time() - DAY
    }
    assert main(["store", "prune", "--store", str(store)]) == 0
    again = run(dataset=dataset, **SIZES, output=tmp_path / "third")
    assert set(again.steps("made")) == {"plan", "export", "report"}
    age(store, 40)
    assert main(["store", "prune", "--store", str(store)]) == 0
    assert stages(store) == {MARKER}


def test_nothing_is_pruned_while_a_run_is_at_work(
    run: Run, dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "store"
    run(dataset=dataset, **SIZES)
    age(store, 40)
    marker = RunMarker(Store(str(store)), Settings(dataset=str(dataset)))
    marker.begin()
    assert main(["store", "prune", "--store", str(store)]) == 1
    assert f"run {marker.name} is at work" in capsys.readouterr().err
    marker.end(None)
    assert main(["store", "prune", "--store", str(store)]) == 0


@pytest.mark.parametrize(
    ("keep", "left"),
    [("none", {"runs", MARKER}), ("counts", {"runs", MARKER, "vocabulary", "streaming", "matrix", "gene_order"})],
)
def test_intermediates_are_kept_as_asked(run: Run, dataset: Path, tmp_path: Path, keep: str, left: set[str]) -> None:
    results = set()
    for clusters in (2, 2, 3):
        kept = run(dataset=dataset, keep_intermediates=keep, **SIZES | {"clusters": clusters})
        assert kept.code == 0
        assert stages(tmp_path / "store") == left
        results.add((clusters, (kept.output / "embeddings.csv").read_bytes()))
    assert {mark.state for _, mark in marks(Store(str(tmp_path / "store")))} == {"ended"}
    again = run(dataset=dataset, output=tmp_path / "again", **SIZES)
    results.add((2, (again.output / "embeddings.csv").read_bytes()))
    assert len(results) == 2


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


def one_line(said: str) -> str:
    (line,) = (line for line in said.splitlines() if line.startswith("error: "))
    assert "Traceback" not in said
    return line


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_folder_that_is_no_store_is_left_alone(
    run: Run, dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = tmp_path / "photos"
    (photos / "2019").mkdir(parents=True)
    (photos / "2019" / "a.jpg").write_bytes(b"a picture")
    age(photos, 400)
    for command in (["ls"], ["verify"], ["prune"], ["prune", "--dry_run"]):
        assert main(["store", *command, "--store", str(photos)]) == 1
        told = one_line(capsys.readouterr().err)
        assert "is no store: it has no tahoe-store.json; name another, and if an earlier version made this one" in told
    for keep in ("all", "none"):
        ran = run(dataset=dataset, store=photos, keep_intermediates=keep, **SIZES)
        assert ran.code == 1
        assert "is not empty: '2019' is there; name a new or an empty folder; if an earlier" in one_line(ran.err)
    assert contents(photos) == {"2019/a.jpg": b"a picture"}
    assert main(["store", "ls", "--store", str(tmp_path / "nothing")]) == 1
    assert not (tmp_path / "nothing").exists()


def test_what_is_of_no_result_is_told_and_left_alone(
    run: Run, dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "store"
    run(dataset=dataset, **SIZES, output=store / "results")
    results = contents(store / "results")
    of_stage = next((store / "streaming").iterdir())
    others = [store / ".DS_Store", store / "matrix" / ".DS_Store", of_stage / ".DS_Store", store / "thesis.tex"]
    for path in others:
        path.write_bytes(b"not ours")
    age(store, 40)
    told = f"{len(others) + len(results):,} files, "
    assert main(["store", "ls", "--store", str(store)]) == 0
    assert told in capsys.readouterr().out
    assert main(["store", "prune", "--store", str(store)]) == 0
    assert f"{told}" in capsys.readouterr().out
    assert contents(store / "results") == results
    left = set(contents(store)) - {f"results/{name}" for name in results}
    assert left == {MARKER, *(str(path.relative_to(store)) for path in others)}


def deny(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Have folders of a name not be listed, as those of another user are not: root may list all."""
    scan = os.scandir

    def refuse(path: str) -> object:
        if Path(path).name == name:
            raise PermissionError(13, "Permission denied", path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)


def store_with_a_result(folder: Path) -> tuple[Store, ObjectRef]:
    store = Store(str(folder))
    store.claim()
    return store, store.keep("kept", "file", b"abc")


@pytest.mark.parametrize("denied", ["lost+found", "test"])
def test_what_may_not_be_read_is_passed_by_and_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, denied: str
) -> None:
    store, ref = store_with_a_result(tmp_path)
    Path(store.locate(ref.path)).write_bytes(b"abd")
    (tmp_path / denied).mkdir()
    age(tmp_path, 40)
    deny(monkeypatch, denied)
    told = f"1 paths may not be looked at and are left alone: {denied}"
    assert main(["store", "ls", "--store", str(tmp_path)]) == 0
    assert told in capsys.readouterr().out
    assert main(["store", "verify", "--store", str(tmp_path)]) == 1
    said = capsys.readouterr()
    assert f"{store.locate(ref.path)} is damaged" in said.err
    if denied == "test":
        # It could be of a stage.
        assert f"cannot read {store.locate('test')}, which may hold results: permission denied" in said.err
    else:
        assert told in said.out
    assert store.keep("kept", "file", b"abc") == ref
    age(tmp_path, 40)
    assert main(["store", "prune", "--store", str(tmp_path)]) == 0
    assert told in capsys.readouterr().out
    assert not list(store.files.walk("kept"))


@pytest.mark.parametrize("denied", ["runs", "series"])
def test_nothing_is_pruned_where_what_is_needed_may_not_be_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, denied: str
) -> None:
    store, ref = store_with_a_result(tmp_path)
    (tmp_path / denied).mkdir()
    age(tmp_path, 40)
    deny(monkeypatch, denied)
    assert main(["store", "prune", "--store", str(tmp_path)]) == 1
    assert f"cannot list {tmp_path / denied}: Permission denied" in one_line(capsys.readouterr().err)
    assert store.read(ref) == b"abc"


def test_what_others_have_put_in_a_mark_is_shown_as_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = Store(str(tmp_path))
    store.claim()
    marker = RunMarker(store, Settings(dataset="a\x1b]0;title\x07b"), name="c\x1b[2Jd")
    marker.begin()
    marker.fail("e\x1b[31m\x9bf\r")
    assert main(["store", "ls", "--store", str(tmp_path)]) == 0
    told = capsys.readouterr().out
    assert all(letter.isprintable() or letter == "\n" for letter in told)
    assert "failed" in told


@pytest.mark.parametrize("days", ["-1", "nan", "inf", "-inf"])
def test_days_that_are_none_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], days: str) -> None:
    Store(str(tmp_path)).claim()
    assert main(["store", "prune", "--store", str(tmp_path), f"--days={days}"]) == 2
    assert f"--days {float(days)} is out of range: give 0 or more" in one_line(capsys.readouterr().err)


@pytest.mark.parametrize("asked", [("--days", "0"), ("--keep_intermediates", "none")])
def test_another_store_is_left_alone_that_the_name_is_a_pattern_of(
    run: Run, dataset: Path, place: str, asked: tuple[str, str]
) -> None:
    assert run(dataset=dataset, store=f"{place}/s1", **SIZES).code == 0
    before = {entry.path for entry in Files(f"{place}/s1", 5).walk()}
    for name in ("s[1]", "s?"):
        keep = "all" if asked[0] == "--days" else asked[1]
        assert run(dataset=dataset, store=f"{place}/{name}", keep_intermediates=keep, **SIZES).code == 0
        if keep == "all":
            assert main(["store", "prune", "--store", f"{place}/{name}", *asked]) == 0
        assert not list(Files(f"{place}/{name}", 5).walk("matrix"))
        assert {entry.path for entry in Files(f"{place}/s1", 5).walk()} == before


def test_a_killed_run_holds_nothing_up(
    run: Run, dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "store"
    run(dataset=dataset, **SIZES)
    ((name, mark),) = marks(Store(str(store)))
    gone = mark.process.model_copy(update={"started": "another"})
    killed = mark.model_copy(update={"ended": False, "folders": (), "process": gone, "seen": time.time()})
    Files(str(store), 5).write(f"runs/{name}.json", killed.model_dump_json().encode())
    assert main(["store", "ls", "--store", str(store)]) == 0
    assert "killed" in capsys.readouterr().out
    assert main(["store", "prune", "--store", str(store), "--dry_run"]) == 0
    run(dataset=dataset, keep_intermediates="none", output=tmp_path / "again", **SIZES)
    assert stages(store) == {"runs", MARKER}


def test_what_a_run_at_work_may_need_is_kept_and_that_is_told(run: Run, dataset: Path, tmp_path: Path) -> None:
    at_work = RunMarker(Store(str(tmp_path / "store")), Settings(dataset=str(dataset)))
    at_work.store.claim()
    at_work.begin()
    ran = run(dataset=dataset, keep_intermediates="none", **SIZES)
    at_work.end(None)
    assert f"store: all intermediates are kept, for run {at_work.name} is at work there" in ran.err
    assert "matrix" in stages(tmp_path / "store")
    # It counts as no user of what it had to leave.
    run(dataset=dataset, keep_intermediates="none", **SIZES)
    assert stages(tmp_path / "store") == {"runs", MARKER}


def test_nothing_of_the_atlas_stays_where_nothing_is_to(run: Run, tmp_path: Path) -> None:
    flags = {
        "dataset": real_cells("mixology-thin"),
        "samples": "all",
        "pca_dim": 5,
        "clusters": "3,5",
        "layout": "none",
    }
    ran = run(recipe="atlas", where="drug is not null", keep_intermediates="none", **flags)
    assert ran.code == 0
    assert stages(tmp_path / "store") == {"runs", MARKER}


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("s3:/bucket/x", "a place on S3 is written as s3://bucket/prefix"),
        ("s3:bucket/x", "a place on S3 is written as s3://bucket/prefix"),
        ("S3://bucket/x", "a place on S3 is written as s3://bucket/prefix"),
        ("s3:///x", "a place on S3 is written as s3://bucket/prefix"),
        ("s3a:/bucket/x", "a place on S3 is written as s3://bucket/prefix"),
        ("https://bucket/x", "neither a path nor a place as s3://bucket/prefix"),
        ("file:/x", "neither a path nor a place as s3://bucket/prefix"),
    ],
)
def test_a_place_that_is_not_written_well_is_refused_in_one_line(
    run: Run, dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], place: str, message: str
) -> None:
    for flag in ("store", "output"):
        ran = run(dataset=dataset, **{flag: place})
        assert ran.code == 2
        assert f"--{flag} {place}: " in one_line(ran.err)
        assert message in ran.err
    assert main(["store", "ls", "--store", place]) == 2
    assert f"--store {place}: " in one_line(capsys.readouterr().err)
