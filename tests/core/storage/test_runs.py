"""Runs as their store knows them: at work while they give signs of life, dead once their process is."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tasks.core.base.errors import StoreError
from tasks.core.base.process import Process, this_process
from tasks.core.base.settings import Settings
from tasks.core.storage.files import Files
from tasks.core.storage.runs import RUNS, RunMark, RunMarker, marks
from tasks.core.storage.store import Store

PROGRAM = """
import os, signal, sys
from tasks.core.base.settings import Settings
from tasks.core.storage.runs import RunMarker
from tasks.core.storage.store import Store
RunMarker(Store(sys.argv[1]), Settings()).begin()
os.kill(os.getpid(), signal.SIGKILL)
"""
ELSEWHERE = Process(machine="another", number=1, started="1")


def only_mark(store: Store) -> RunMark:
    ((_, mark),) = marks(store)
    return mark


def test_a_run_is_at_work_until_it_ends(place: str) -> None:
    store = Store(place)
    marker = RunMarker(store, Settings())
    marker.begin()
    assert (only_mark(store).is_running, only_mark(store).state) == (True, "running")
    marker.fail("of this")
    assert (only_mark(store).is_running, only_mark(store).state) == (False, "failed: of this")


def test_a_run_whose_process_is_dead_is_known_at_once(tmp_path: Path) -> None:
    died = subprocess.run([sys.executable, "-c", PROGRAM, str(tmp_path)], check=False)
    assert died.returncode == -9
    mark = only_mark(Store(str(tmp_path)))
    assert time.time() - mark.seen < 300
    assert (mark.is_running, mark.state) == (False, "killed")


@pytest.mark.parametrize(
    ("silent", "is_running"), [(0.0, True), (240.0, True), (360.0, False), (-240.0, True), (-360.0, False)]
)
def test_a_run_of_another_machine_is_known_by_its_signs_of_life(
    tmp_path: Path, silent: float, *, is_running: bool
) -> None:
    store = Store(str(tmp_path))
    marker = RunMarker(store, Settings())
    marker.begin()
    marker.fail("")
    of_another = {"process": ELSEWHERE, "seen": time.time() - silent, "ended": False}
    assert only_mark(store).model_copy(update=of_another).is_running == is_running
    # Of one that is stopped, or whose machine sleeps, nothing is heard either; here it is seen.
    assert only_mark(store).model_copy(update=of_another | {"process": this_process()}).is_running


@pytest.mark.parametrize("silent", [4000.0, -4000.0])
def test_a_run_that_could_not_say_that_it_is_over_holds_up_nothing_for_longer_than_an_hour(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, silent: float
) -> None:
    store = Store(str(tmp_path))
    marker = RunMarker(store, Settings())
    marker.begin()
    with monkeypatch.context() as disk:
        disk.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        with pytest.raises(StoreError, match="No space left"):
            marker.fail("of this")
    left = only_mark(store)
    assert (left.ended, left.process) == (False, this_process())
    assert (left.is_running, left.model_copy(update={"seen": time.time() - silent}).state) == (True, "killed")


def test_a_run_gives_signs_of_life_whatever_it_is_at_and_none_once_it_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, write, writes = Store(str(tmp_path)), Files.write, 0

    def write_most_times(files: Files, path: str, data: bytes) -> None:
        nonlocal writes
        writes += 1
        if writes == 2:
            raise StoreError("the disk is full just now")
        write(files, path, data)

    monkeypatch.setattr(Files, "write", write_most_times)
    marker = RunMarker(store, Settings(), beat=0.001)
    marker.begin()
    first = only_mark(store).seen
    until = time.monotonic() + 60
    while only_mark(store).seen == first and time.monotonic() < until:
        time.sleep(0.001)
    assert only_mark(store).seen > first
    marker.end(None)
    time.sleep(0.02)
    assert only_mark(store).ended


def test_a_draft_that_a_killed_process_has_left_is_no_mark_of_a_run(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    marker = RunMarker(store, Settings(), "a flow run")
    marker.begin()
    marker.end(None)
    (written,) = (tmp_path / RUNS).iterdir()
    (tmp_path / RUNS / f".{written.name}.0a1b").write_bytes(written.read_bytes())
    assert len(list(store.files.walk(RUNS))) == 2
    assert [name for name, _ in marks(store)] == [written.stem]


@pytest.mark.parametrize(
    "changed",
    [
        {"began": float("inf")},
        {"seen": float("nan")},
        {"began": 10.0**300},
        {"seen": -1},
        {"process": 3},
        {"folders": 3},
        {"asked": []},
        {"ended": "maybe"},
    ],
)
def test_a_mark_that_is_none_is_passed_by(tmp_path: Path, changed: dict[str, object]) -> None:
    store = Store(str(tmp_path))
    marker = RunMarker(store, Settings())
    marker.begin()
    marker.end(None)
    mark = json.loads(store.files.read(f"{RUNS}/{marker.name}.json") or b"")
    for name, text in {"a": json.dumps(mark | changed).encode(), "b": b"[" * 10**5, "c": b"", "d": b"\xff"}.items():
        store.files.write(f"{RUNS}/{name}.json", text)
    assert [name for name, _ in marks(store)] == [marker.name]
