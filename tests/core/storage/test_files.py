import errno
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import aiohttp
import pytest
from botocore.exceptions import (
    ConnectTimeoutError,
    EndpointConnectionError,
    IncompleteReadError,
    ParamValidationError,
    PartialCredentialsError,
    ProfileNotFound,
    ReadTimeoutError,
)
from botocore.parsers import ResponseParserError

from tasks.core.base.errors import SettingsError, StoreError
from tasks.core.storage.files import Files
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


def test_what_is_not_there_is_none_and_may_be_removed(place: str) -> None:
    files = Files(place, patience=5)
    assert files.read("nothing") is None
    assert files.size("nothing") is None
    files.remove("nothing")


@pytest.mark.parametrize(
    "name",
    [
        "s[1]",
        "s?",
        "s*",
        "{s1,s}",
        "s1::s",
        "s 1",
        "s#1",
        "s%31",
        "s;1&2=3+4",
        "~s1",
        "$HOME",
        "'s\"1",
        "zellen-ä-細胞",
    ],
)
def test_a_place_is_what_its_name_says(place: str, name: str) -> None:
    # What the names are patterns of.
    others = [Files(f"{place}/{other}", patience=5) for other in ("s", "s1", "sx")]
    for other in others:
        other.write("folder/file", b"another's")
    files = Files(f"{place}/{name}", patience=5)
    assert (files.first(), list(files.walk()), files.read("folder/file")) == (None, [], None)
    files.write("folder/file", b"abc")
    assert (files.read("folder/file"), files.size("folder/file")) == (b"abc", 3)
    assert [entry.path for entry in files.walk()] == [entry.path for entry in files.walk("folder")] == ["folder/file"]
    assert f"{name}/folder/file" in [entry.path for entry in Files(place, patience=5).walk()]
    files.remove("folder/file")
    assert list(files.walk()) == []
    assert [other.read("folder/file") for other in others] == [b"another's"] * 3


def test_a_local_file_is_moved_in(place: str, tmp_path: Path) -> None:
    files = Files(place, patience=5)
    files.write("something", b"")
    (tmp_path / "made [1]").write_bytes(b"abc")
    files.move_in(tmp_path / "made [1]", "folder/made [1]")
    assert files.read("folder/made [1]") == b"abc"


@pytest.mark.parametrize("how", ["written", "moved in"])
def test_a_file_and_all_folders_to_it_outlast_a_loss_of_power(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    synced: list[tuple[Path, bool]] = []
    sync, made = os.fsync, tmp_path / "store" / "a" / "b" / "file"

    def note(descriptor: int) -> None:
        synced.append((Path(f"/proc/self/fd/{descriptor}").readlink(), made.exists()))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    files = Files(str(tmp_path / "store"), patience=5)
    if how == "written":
        files.write("a/b/file", b"abc")
    else:
        (tmp_path / "made").write_bytes(b"abc")
        files.move_in(tmp_path / "made", "a/b/file")
    # The bytes before the name that counts, and that name last.
    *folders, (data, was_there), last = synced
    assert [path for path, _ in folders] == [tmp_path, tmp_path / "store", tmp_path / "store" / "a"]
    assert (data.is_dir(), was_there) == (False, False)
    assert last == (tmp_path / "store" / "a" / "b", True)


@pytest.mark.parametrize("error", [TypeError("ours"), KeyError("ours"), AttributeError("ours")])
def test_an_error_of_this_code_is_not_tried_again(
    s3_server: S3Server, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    files, tried = Files(f"s3://{BUCKET}/x", patience=60), []

    def fail(*_: object, **__: object) -> bytes:
        tried.append(1)
        raise error

    monkeypatch.setattr(files.fs, "cat_file", fail)
    with pytest.raises(type(error)) as raised:
        files.read("file")
    assert (raised.value, len(tried)) == (error, 1)


PASSING = [
    TimeoutError(),
    ConnectionResetError(104, "reset"),
    OSError(errno.EBUSY, "SlowDown"),
    OSError(errno.EIO, "an answer that s3fs does not know"),
    ConnectTimeoutError(endpoint_url="x"),
    ReadTimeoutError(endpoint_url="x"),
    EndpointConnectionError(endpoint_url="x"),
    IncompleteReadError(actual_bytes=1, expected_bytes=2),
    ResponseParserError("no XML"),
    aiohttp.ClientPayloadError("cut off"),
    aiohttp.ServerDisconnectedError(),
]
LASTING = [
    PermissionError(13, "Access Denied"),
    OSError(errno.EINVAL, "InvalidBucketName"),
    ParamValidationError(report="bad"),
    ProfileNotFound(profile="lab"),
    PartialCredentialsError(provider="env", cred_var="x"),
]


@pytest.mark.parametrize("error", PASSING + LASTING, ids=lambda error: f"{type(error).__name__} {error}")
def test_only_what_a_server_or_the_way_there_may_do_is_tried_again(
    s3_server: S3Server, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    files = Files(f"s3://{BUCKET}/x", patience=60)
    files.write("file", b"abc")
    left = [error]

    def fail_once(path: str, **_: object) -> bytes:
        if left:
            raise left.pop()
        return b"abc"

    monkeypatch.setattr(Files, "fs", SimpleNamespace(cat_file=fail_once))
    if error in PASSING:
        assert files.read("file") == b"abc"
    else:
        with pytest.raises(StoreError, match=r"^cannot read [^\n]*$"):
            files.read("file")


def test_links_are_seen(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "file").write_bytes(b"")
    files = Files(str(tmp_path / "root"), patience=5)
    files.write("folder/file", b"")
    (tmp_path / "root" / "out").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "root" / "within").symlink_to(tmp_path / "root" / "folder")
    (tmp_path / "root" / "folder" / "link").symlink_to(tmp_path / "elsewhere" / "file")
    (tmp_path / "linked").symlink_to(tmp_path / "root")
    for place in ("root", "linked"):
        files = Files(str(tmp_path / place), patience=5)
        assert not files.is_linked("folder/file")
        assert not files.is_linked("nothing/here")
        assert all(map(files.is_linked, ("out/file", "within/file", "folder/link", "out/nothing")))
        assert [entry.path for entry in files.walk()] == ["folder/file"]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("path", ["runs/file", "runs/deep/file"])
def test_nothing_is_read_written_listed_or_removed_behind_a_link(tmp_path: Path, path: str) -> None:
    elsewhere, made = Files(str(tmp_path / "elsewhere"), patience=5), tmp_path / "made"
    elsewhere.write(path.removeprefix("runs/"), b"another's")
    made.write_bytes(b"ours")
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "runs").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "linked").symlink_to(tmp_path / "root")
    before = contents(tmp_path / "elsewhere")
    for place in ("root", "linked"):
        files = Files(str(tmp_path / place), patience=5)
        assert [files.read(path), files.size(path), files.sha256(path), *files.walk("runs")] == [None] * 3
        refused = r"runs/.*: it lies behind a link, and none is followed: remove that"
        with pytest.raises(StoreError, match=refused):
            files.write(path, b"ours")
        with pytest.raises(StoreError, match=refused):
            files.move_in(made, path)
        files.remove(path)
        files.remove_emptied("runs")
        assert contents(tmp_path / "elsewhere") == before
        assert Files(str(tmp_path / place), patience=5, follows_links=True).read(path) == b"another's"


def test_what_is_a_link_itself_is_replaced_or_removed_and_not_what_it_leads_to(tmp_path: Path) -> None:
    files = Files(str(tmp_path / "root"), patience=5)
    files.write("other", b"")
    (tmp_path / "elsewhere").write_bytes(b"another's")
    changes: list[Callable[[], None]] = [lambda: files.write("file", b"ours"), lambda: files.remove("file")]
    for change in changes:
        (tmp_path / "root" / "file").unlink(missing_ok=True)
        (tmp_path / "root" / "file").symlink_to(tmp_path / "elsewhere")
        assert (files.read("file"), files.entry("file")) == (None, None)
        change()
        assert not (tmp_path / "root" / "file").is_symlink()
    assert (tmp_path / "elsewhere").read_bytes() == b"another's"


KILLED = """
import os, signal, sys
from tasks.core.storage.files import Files
files = Files(sys.argv[1], 5)
Files.remove = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
files.check_writable()
"""


def test_a_place_that_is_checked_is_left_as_it_was(place: str) -> None:
    files = Files(place, patience=5)
    # One that was killed before it could tidy up is of no weight, and the next one does.
    subprocess.run([sys.executable, "-c", KILLED, place], check=False)
    assert (files.first(), list(files.whole(""))) == (None, [])
    files.check_writable()
    assert list(files.walk()) == []
    assert not Path(place).exists()


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for place in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/nowhere")):
        with pytest.raises(StoreError, match=f"^cannot write {place}[^\n]*$"):
            Files(str(place), patience=5).check_writable()


def test_a_home_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    Files("~/store", patience=5).write("file", b"abc")
    assert (tmp_path / "home" / "store" / "file").read_bytes() == b"abc"
    with pytest.raises(SettingsError, match="no such home folder"):
        Files("~nobody-of-this-name/store", patience=5)


def test_only_a_tilde_at_the_very_beginning_is_a_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    for name in ("~", "~nobody-of-this-name", "~/store"):
        Files(f"./{name}", patience=5).write("file", b"abc")
        assert (tmp_path / name / "file").read_bytes() == b"abc"
    assert not (tmp_path / "home").exists()


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
