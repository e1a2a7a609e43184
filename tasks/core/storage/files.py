"""Bytes under a URL: a folder on a local disk or a prefix on S3, used the same way, passing trouble waited out.

S3's credentials, region and endpoint come from where AWS's own tools look: the environment, profile files, the
machine's role; `keyring` may lend some to the environment. They are looked up anew when S3 refuses them, so a long
run outlives the ones it began with.
"""

import errno
import hashlib
import os
import random
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import fsspec

from tasks.core.base.errors import StoreError, first_line
from tasks.core.storage.keyring import keyring

R = TypeVar("R")

# Between two tries: twice as long each time, up to this, give or take a half so that runs do not knock together.
_FIRST_WAIT, _LONGEST_WAIT = 0.2, 10.0
_S3_OPTIONS: dict[str, Any] = {
    # What others write must be seen at once.
    "use_listings_cache": False,
    "config_kwargs": {"connect_timeout": 10, "read_timeout": 60, "retries": {"mode": "standard", "max_attempts": 3}},
}
# What S3 servers answer where there is such an object already, and where they cannot know.
_NOT_CREATED = (errno.EINVAL, errno.ENOSYS)
_NO_CREDENTIALS = "no AWS credentials were found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"


@dataclass(frozen=True)
class Entry:
    """A file: its path below the root, its size in bytes and when it was written, in seconds since 1970."""

    path: str
    size: int
    modified: float


class Files:
    """Files below a URL.

    Args:
        url: a path, or a URL that fsspec knows, such as `s3://bucket/prefix`.
        patience: seconds for which to go on trying where a server does not answer, or not well.

    Raises:
        StoreError: the URL's scheme is unknown.
    """

    def __init__(self, url: str, patience: float) -> None:
        self.url = url
        self.patience = patience
        try:
            self._open()
        except (ValueError, ImportError) as error:
            raise StoreError(f"'{url}' is neither a path nor a URL this can write to: {error}") from error

    @property
    def is_local(self) -> bool:
        """Whether they are on this machine."""
        return "file" in (self.fs.protocol if isinstance(self.fs.protocol, tuple) else (self.fs.protocol,))

    def locate(self, path: str) -> str:
        """Full path or URL of a file, for messages and for readers outside this class."""
        return f"{(self.root if self.is_local else self.url).rstrip('/')}/{path}"

    def read(self, path: str) -> bytes | None:
        """Give a file's bytes, or None where there is no such file."""
        with suppress(FileNotFoundError):
            data: bytes = self._try("read", path, lambda: self.fs.cat_file(self.locate(path)))
            return data
        return None

    def write(self, path: str, data: bytes | memoryview) -> None:
        """Write a file whole or not at all."""
        if self.is_local:
            self._write(path, lambda: _replace_file(Path(self.locate(path)), data))
        else:
            self._write(path, lambda: self.fs.pipe_file(self.locate(path), bytes(data)))

    def create(self, path: str, data: bytes) -> bool:
        """Write a file unless there is one; say whether it was written. False as well where that cannot be told."""

        def create() -> bool:
            try:
                if self.is_local:
                    _create_file(Path(self.locate(path)), data)
                else:
                    self.fs.pipe_file(self.locate(path), data, mode="create")
            except OSError as error:
                if isinstance(error, FileExistsError) or error.errno in _NOT_CREATED:
                    return False
                raise
            return True

        return self._write(path, create)

    def move_in(self, local: Path, path: str) -> None:
        """Move a finished local file here."""
        if self.is_local:
            self._write(path, lambda: _move(local, Path(self.locate(path))))
        else:
            self._write(path, lambda: self.fs.put_file(str(local), self.locate(path)))

    def size(self, path: str) -> int | None:
        """Size of a file in bytes, or None where there is no such file."""
        with suppress(FileNotFoundError):
            return int(self._try("read", path, lambda: self.fs.info(self.locate(path)))["size"])
        return None

    def entry(self, path: str) -> Entry | None:
        """Describe a file, or what has its name on a local disk; None where there is no such."""

        def describe() -> Entry | None:
            if self.is_local:
                found = Path(self.locate(path)).stat()
                return Entry(path, found.st_size, found.st_mtime)
            info = self.fs.info(self.locate(path))
            is_file = info["type"] == "file"
            return Entry(path, int(info["size"]), info["LastModified"].timestamp()) if is_file else None

        with suppress(FileNotFoundError):
            return self._try("read", path, describe)
        return None

    def sha256(self, path: str) -> str | None:
        """Digest of a file's bytes, read piece by piece, or None where there is no such file."""

        def digest() -> str | None:
            if self.is_local and not Path(self.locate(path)).is_file():
                return None
            with self.fs.open(self.locate(path), "rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()

        with suppress(FileNotFoundError):
            return self._try("read", path, digest)
        return None

    def remove(self, path: str) -> None:
        """Remove a file, if it is there."""
        with suppress(FileNotFoundError):
            self._try("remove", path, lambda: self.fs.rm_file(self.locate(path)))

    def remove_folder(self, path: str) -> None:
        """Remove all files of a folder, if it is there."""

        def remove() -> None:
            try:
                self.fs.rm(self.locate(path), recursive=True)
            except FileNotFoundError:
                # Another run may be removing it as well, and each may have met what the other had removed.
                if self.is_local and self.fs.exists(self.locate(path)):
                    remove()

        self._try("remove", path, remove)

    def set_aside(self, path: str, new_path: str) -> None:
        """Move a file elsewhere, if it is there."""

        def move() -> None:
            self.fs.makedirs(self.locate(new_path).rpartition("/")[0], exist_ok=True)
            self.fs.mv(self.locate(path), self.locate(new_path))

        with suppress(FileNotFoundError):
            self._try("move", path, move)

    def walk(self, folder: str = "") -> Iterator[Entry]:
        """Give every file in a folder and below, drafts too, in order of path."""
        try:
            found = self._try("list", folder, lambda: self.fs.find(self.locate(folder).rstrip("/"), detail=True))
        except FileNotFoundError:
            return
        start = len(self.root.rstrip("/")) + 1
        for path, info in sorted(found.items()):
            # S3 may list a folder that has been emptied.
            if info["type"] == "file":
                yield Entry(path[start:], int(info["size"]), _modified(info))

    def whole(self, folder: str) -> Iterator[Entry]:
        """Give every file in a folder and below but the drafts that a killed process may have left there."""
        return (entry for entry in self.walk(folder) if not entry.path.rpartition("/")[2].startswith("."))

    def _open(self) -> None:
        self._keys = keyring.changes
        options = _S3_OPTIONS if self.url.startswith(("s3://", "s3a://")) else {}
        self.fs, self.root = fsspec.core.url_to_fs(self.url, skip_instance_cache=True, **options)

    def _write(self, path: str, function: Callable[[], R]) -> R:
        try:
            return self._try("write", path, function)
        except FileNotFoundError as error:
            raise StoreError(f"cannot write {self.locate(path)}: {_reason(error)}") from error

    def _try(self, action: str, path: str, function: Callable[[], R]) -> R:
        waits = _waits(0.0 if self.is_local else self.patience)
        if self._keys != keyring.changes:
            self._open()
        while True:
            keys = self._keys
            try:
                return function()
            except FileNotFoundError:
                raise
            except Exception as error:  # a server's client fails in many ways
                wait = next(waits, None)
                if wait is None or not _is_worth_another(error, keys):
                    raise StoreError(f"cannot {action} {self.locate(path)}: {_reason(error)}") from error
            time.sleep(wait)
            # With new connections, and credentials that may have been renewed.
            self._open()


def _waits(patience: float) -> Iterator[float]:
    until, wait = time.monotonic() + patience, _FIRST_WAIT
    while time.monotonic() < until:
        yield wait * random.uniform(0.5, 1.5)  # noqa: S311  (no secret)
        wait = min(2 * wait, _LONGEST_WAIT)


def _is_worth_another(error: Exception, keys: int) -> bool:
    passing = _may_pass(error)
    # Keys that were lent may have been renewed where they come from, and S3 does not always say that it wants that.
    renewed = (not passing or isinstance(error, PermissionError)) and keyring.renew(keys)
    return passing or renewed


def _may_pass(error: Exception) -> bool:
    # What S3 refuses by right is refused again, but for credentials that have run out.
    if isinstance(error, PermissionError):
        return "expired" in str(error).lower()
    named = {kind.__name__ for kind in type(error).__mro__}
    if named & {"NoCredentialsError", "ParamValidationError", "ProfileNotFound"}:
        return False
    return not (isinstance(error, OSError) and error.errno in (errno.EINVAL, errno.EPERM, errno.ENOSYS))


def _reason(error: Exception) -> str:
    if type(error).__name__ == "NoCredentialsError":
        return _NO_CREDENTIALS
    return (isinstance(error, OSError) and error.strerror) or first_line(error)


def _modified(info: dict[str, Any]) -> float:
    when = info.get("mtime") or info.get("LastModified") or 0.0
    return float(when.timestamp() if hasattr(when, "timestamp") else when)


def _create_file(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as file:
        file.write(data)


def _move(file: Path, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    file.replace(path)


def _replace_file(path: Path, data: bytes | memoryview) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
