import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tasks.core.base.errors import StoreError
from tasks.core.base.settings import Settings
from tasks.core.storage.files import Files
from tasks.core.storage.runs import RUNS, RunMarker, marks
from tasks.core.storage.store import Store
from tests.s3_server import BUCKET, S3Server


@pytest.fixture
def own_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    """A server that a test may kill."""
    server = S3Server(tmp_path)
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    server.start()
    yield server
    server.kill()


def test_files_are_listed_with_their_sizes_and_ages(place: str) -> None:
    files = Files(place, patience=5)
    before = time.time()
    for path in ("b/2", "a", "b/1"):
        files.write(path, path.encode())
    listed = list(files.walk())
    assert [(entry.path, entry.size) for entry in listed] == [("a", 1), ("b/1", 3), ("b/2", 3)]
    assert all(before - 2 <= entry.modified <= time.time() + 2 for entry in listed)
    assert [entry.path for entry in files.walk("b")] == ["b/1", "b/2"]
    assert list(files.walk("c")) == []


def test_a_draft_that_a_killed_process_has_left_is_no_mark_of_a_run(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    RunMarker(store, Settings(), "a flow run").beat()
    (written,) = (tmp_path / RUNS).iterdir()
    (tmp_path / RUNS / f".{written.name}.0a1b").write_bytes(written.read_bytes())
    assert len(list(store.files.walk(RUNS))) == 2
    assert [name for name, _ in marks(store)] == [written.stem]


def test_what_is_not_there_is_none_and_may_be_removed(place: str) -> None:
    files = Files(place, patience=5)
    assert files.read("nothing") is None
    assert files.size("nothing") is None
    files.remove("nothing")
    files.remove_folder("nothing")
    files.set_aside("nothing", "elsewhere")


def test_a_file_is_created_once(place: str) -> None:
    files = Files(place, patience=5)
    assert files.create("folder/file", b"first")
    assert not files.create("folder/file", b"second")
    assert files.read("folder/file") == b"first"


def test_a_folder_may_be_removed_by_two_at_once(place: str) -> None:
    files = Files(place, patience=5)
    for number in range(40):
        files.write(f"folder/{number % 4}/{number}", b"x")
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(files.remove_folder, ["folder"] * 2))
    assert list(files.walk()) == []


def test_a_local_file_is_moved_in(place: str, tmp_path: Path) -> None:
    files = Files(place, patience=5)
    files.write("something", b"")
    (tmp_path / "made").write_bytes(b"abc")
    files.move_in(tmp_path / "made", "made")
    assert files.read("made") == b"abc"


def test_a_server_that_comes_back_is_waited_for(own_server: S3Server) -> None:
    files = Files(f"s3://{BUCKET}/x", patience=60)
    files.write("before", b"1")
    own_server.kill()
    restart = threading.Timer(2, own_server.start)
    restart.start()
    files.write("during", b"2")
    restart.join()
    assert [files.read("before"), files.read("during")] == [b"1", b"2"]


def test_a_server_that_stays_away_is_told_in_one_line(own_server: S3Server) -> None:
    files = Files(f"s3://{BUCKET}/x", patience=1)
    own_server.kill()
    with pytest.raises(StoreError, match=rf"^cannot write s3://{BUCKET}/x/file: Could not connect[^\n]*$"):
        files.write("file", b"")
    own_server.start()


def test_credentials_are_looked_up_anew_when_they_have_expired(
    s3_server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = Files(f"s3://{BUCKET}/x", patience=10)
    first = files.fs
    refused = iter([PermissionError("The provided token has expired.")])

    def refuse_once(*_: object, **__: object) -> bytes:
        for error in refused:
            raise error
        return b""

    monkeypatch.setattr(files.fs, "cat_file", refuse_once)
    files.write("file", b"abc")
    assert files.read("file") == b"abc"
    assert files.fs is not first


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ({"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None}, "no AWS credentials were found: set"),
        ({"AWS_SECRET_ACCESS_KEY": "another"}, "signature"),
    ],
)
def test_credentials_that_do_not_do_are_told_at_once_and_not_shown(
    s3_server: S3Server, monkeypatch: pytest.MonkeyPatch, missing: dict[str, str | None], message: str
) -> None:
    for name, value in missing.items():
        if value is None:
            monkeypatch.delenv(name)
        else:
            monkeypatch.setenv(name, value)
    files = Files(f"s3://{BUCKET}/x", patience=60)
    began = time.monotonic()
    with pytest.raises(StoreError, match=message) as refused:
        files.write("file", b"")
    assert time.monotonic() - began < 30
    assert not any(value in str(refused.value) for name, value in os.environ.items() if "SECRET" in name)


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = Files(str(tmp_path), patience=60)

    def full(_file: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match=r"cannot write .*/a/file: No space left on device"):
        files.write("a/file", b"abc")
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
