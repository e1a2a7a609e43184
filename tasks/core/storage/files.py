"""Bytes under a URL: a folder on a local disk or a prefix on S3, used the same way, passing trouble waited out.

S3's credentials, region and endpoint come from where AWS's own tools look (the environment, profile files, the
machine's role), or from what `keyring` holds. They are looked up anew when S3 refuses them, so a long run outlives the
ones it began with.
"""

import errno
import hashlib
import os
import random
import re
import stat
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import accumulate, islice
from operator import attrgetter
from pathlib import Path, PurePath
from tempfile import TemporaryFile
from typing import Any, BinaryIO, TypeVar

from fsspec.implementations.local import LocalFileSystem

from tasks.core.base.errors import SettingsError, StoreError, first_line
from tasks.core.base.paths import absolute
from tasks.core.base.settings import is_on_s3
from tasks.core.storage.keyring import keyring

R = TypeVar("R")

# Between two tries: twice as long each time, up to this, give or take a half so that runs do not knock together.
_FIRST_WAIT, _LONGEST_WAIT = 0.2, 10.0
_S3_OPTIONS: dict[str, Any] = {
    # What others write must be seen at once.
    "use_listings_cache": False,
    "config_kwargs": {"connect_timeout": 10, "read_timeout": 60, "retries": {"mode": "standard", "max_attempts": 3}},
}
# What s3fs makes of answers that another try would get again.
_REFUSALS = (errno.EINVAL, errno.EPERM, errno.ENOSYS, errno.EMSGSIZE, errno.ENAMETOOLONG)
# Errors of S3's client, which are no OSErrors, when a server does not answer or not whole.
_PASSING = {
    "ClientError",
    "ConnectionError",
    "CredentialRetrievalError",
    "FlexibleChecksumError",
    "HTTPClientError",
    "IncompleteReadError",
    "MetadataRetrievalError",
    "ResponseParserError",
}
# Name of what a process leaves that is killed as it writes a file.
DRAFT = re.compile(r"\.(?P<of>.+)\.[0-9a-f]{32}")
_SOME = 10
_LINKED = "it lies behind a link, and none is followed: remove that"
# A draft by its name, and the same one each time: at most one stays of runs that are killed, until the next.
_PROBE = f".probe.{0:032x}"
_NO_CREDENTIALS = "no AWS credentials were found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"


@dataclass(frozen=True)
class Entry:
    """A file: its path below the root, its size in bytes and when it was written, in seconds since 1970."""

    path: str
    size: int
    modified: float


class Files:
    """Files below a URL.

    Of what is a link, or lies behind one that is below the root, nothing is there, and nothing can be written.

    Args:
        url: a path, or `s3://bucket/prefix`, taken as it stands.
        patience: seconds for which to go on trying where a server does not answer, or not well.
        credentials: name under which `keyring` holds those for S3; None for AWS's own.
        follows_links: have links be what they lead to all the same: of files that are only read.

    Raises:
        SettingsError: the URL is of another kind.
    """

    def __init__(
        self, url: str, patience: float, credentials: str | None = None, *, follows_links: bool = False
    ) -> None:
        self.url = url
        self.follows_links = follows_links
        self.patience = patience
        self.credentials = credentials
        self.is_local = not is_on_s3(url)
        self.root = root_of(url)
        self._fs: Any = None
        self._keys = -1

    @property
    def fs(self) -> Any:
        """Their file system, opened with the credentials that are held now."""
        if self._keys != keyring.changes(self.credentials):
            self._open()
        return self._fs

    def locate(self, path: str) -> str:
        """Full path or URL of a file, for messages and for readers outside this class."""
        return f"{(self.root if self.is_local else self.url).rstrip('/')}/{path}"

    def is_linked(self, path: str) -> bool:
        """Whether a path of this machine is a link, or lies behind one that is below the root."""
        if not self.is_local:
            return False
        steps = accumulate(PurePath(path).parts, Path.joinpath, initial=Path(self.root))
        return any(step.is_symlink() for step in islice(steps, 1, None))

    def read(self, path: str) -> bytes | None:
        """Give a file's bytes, or None where there is no such file."""

        def read() -> bytes:
            if self.is_local:
                return self._there(path).read_bytes()
            # In parts it would be read only after its size had been asked for.
            data: bytes = self.fs.cat_file(self._key(path), max_concurrency=1)
            return data

        with suppress(FileNotFoundError):
            return self._try("read", path, read)
        return None

    def write(self, path: str, data: bytes | memoryview) -> None:
        """Write a file whole or not at all."""
        if self.is_local:
            self._write(path, lambda: _replace_file(self._disk(path), data))
        else:
            self._write(path, lambda: self.fs.pipe_file(self._key(path), bytes(data)))

    def check_writable(self) -> None:
        """Raise StoreError unless a file can be written here; nothing is left, nor of a process that is killed."""

        def open_unnamed() -> None:
            root = Path(self.root)
            TemporaryFile(dir=next(folder for folder in (root, *root.parents) if folder.exists())).close()

        if self.is_local:
            self._write("", open_unnamed)
        else:
            self.write(_PROBE, b"")
            self.remove(_PROBE)

    def move_in(self, local: Path, path: str) -> None:
        """Move a finished local file here."""
        if self.is_local:
            self._write(path, lambda: _move(local, self._disk(path)))
        else:
            self._write(path, lambda: self.fs.put_file(str(local), self._key(path)))

    def move(self, path: str, to: str) -> None:
        """Move a file to another place here, in place of what is there; on S3 nothing of it comes this way."""
        if self.is_local:
            self._write(to, lambda: _move(self._there(path), self._disk(to)))
        else:
            self._write(to, lambda: self.fs.cp_file(self._key(path), self._key(to)))
            self.remove(path)

    def size(self, path: str) -> int | None:
        """Size of a file in bytes, or None where there is no such file."""
        entry = self.entry(path)
        return None if entry is None else entry.size

    def entry(self, path: str) -> Entry | None:
        """Describe a file, or what has its name on a local disk; None where there is no such."""

        def describe() -> Entry | None:
            if self.is_local:
                with suppress(NotADirectoryError):
                    found = self._there(path).stat()
                    return Entry(path, found.st_size, found.st_mtime)
                return None
            info = self.fs.info(self._key(path))
            is_file = info["type"] == "file"
            return Entry(path, int(info["size"]), info["LastModified"].timestamp()) if is_file else None

        with suppress(FileNotFoundError):
            return self._try("read", path, describe)
        return None

    def sha256(self, path: str) -> str | None:
        """Digest of a file's bytes, read piece by piece, or None where there is no such file."""

        def digest() -> str | None:
            if self.is_local and not self._there(path).is_file():
                return None
            with self._there(path).open("rb") if self.is_local else self.fs.open(self._key(path), "rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()

        with suppress(FileNotFoundError):
            return self._try("read", path, digest)
        return None

    def remove(self, path: str) -> None:
        """Remove a file, if it is there."""

        def remove() -> None:
            if self.is_local:
                self._disk(path).unlink()
            else:
                self.fs.rm_file(self._key(path))

        with suppress(FileNotFoundError):
            self._try("remove", path, remove)

    def settle(self, folder: str) -> None:
        """Have what was removed from a local folder stay so when power is lost, where its file system can."""
        if self.is_local:
            with suppress(FileNotFoundError):
                self._try("write", folder, lambda: _settle(self._disk(folder)))

    def remove_emptied(self, folder: str) -> None:
        """Remove a local folder if nothing is in it; on S3 there are none."""
        if self.is_local:
            with suppress(OSError):
                self._disk(folder).rmdir()

    def first(self) -> str | None:
        """Name of something that lies here, drafts left aside; None where there is nothing."""

        def names() -> list[str]:
            if self.is_local:
                return [path.name for path in Path(self.root).iterdir()]
            bucket, _, prefix = f"{self.root}/".partition("/")
            # Of a whole bucket that would be a long list.
            found = self.fs.call_s3("list_objects_v2", Bucket=bucket, Prefix=prefix, MaxKeys=_SOME)
            return [entry["Key"].removeprefix(prefix) for entry in found.get("Contents", ())]

        with suppress(FileNotFoundError):
            return next((name for name in sorted(self._try("list", "", names)) if name and not _is_draft(name)), None)
        return None

    def walk(self, folder: str = "", pass_by: Callable[[str], None] | None = None) -> Iterator[Entry]:
        """Give every file in a folder and below, drafts too, in order of path; links are none, and not followed.

        Args:
            folder: below the root.
            pass_by: told of each folder that may not be looked at; None to have it raised.
        """

        def find() -> list[Entry]:
            return _list_disk(self.root, self._there(folder), pass_by) if self.is_local else self._list_s3(folder)

        with suppress(FileNotFoundError):
            yield from sorted(self._try("list", folder, find), key=attrgetter("path"))

    def whole(self, folder: str) -> Iterator[Entry]:
        """Give every file in a folder and below but the drafts that a killed process may have left there."""
        return (entry for entry in self.walk(folder) if not entry.path.rpartition("/")[2].startswith("."))

    def _there(self, path: str) -> Path:
        if not self.follows_links and self.is_linked(path):
            raise FileNotFoundError(errno.ENOENT, _LINKED)
        return Path(self.root, path)

    def _disk(self, path: str) -> Path:
        """Where to write or remove a file: in place of a link, but not behind one."""
        folder, _, name = path.rpartition("/")
        return self._there(folder) / name

    def _key(self, path: str) -> str:
        return f"{self.root}/{path}" if path else self.root

    def _list_s3(self, folder: str) -> list[Entry]:
        found = self.fs.find(self._key(folder), detail=True)
        start = len(self.root) + 1
        # It may list a folder that has been emptied.
        return [
            Entry(path[start:], int(info["size"]), info["LastModified"].timestamp())
            for path, info in found.items()
            if info["type"] == "file"
        ]

    def _open(self) -> None:
        keys = keyring.changes(self.credentials)
        self._fs = filesystem_of(self.url, self.credentials)
        self._keys = keys

    def _write(self, path: str, function: Callable[[], R]) -> R:
        try:
            return self._try("write", path, function)
        except FileNotFoundError as error:
            raise StoreError(f"cannot write {self.locate(path)}: {_reason(error)}") from error

    def _try(self, action: str, path: str, function: Callable[[], R]) -> R:
        waits = _waits(0.0 if self.is_local else self.patience)
        while True:
            keys = keyring.changes(self.credentials)
            try:
                return function()
            except (FileNotFoundError, StoreError):
                raise
            except Exception as error:
                if not _is_a_servers(error):
                    raise
                wait = next(waits, None)
                if wait is None or not self._is_worth_another(error, keys):
                    raise StoreError(f"cannot {action} {self.locate(path)}: {_reason(error)}") from error
            time.sleep(wait)
            # With new connections, and credentials that may have been renewed.
            self._open()

    def _is_worth_another(self, error: Exception, keys: int) -> bool:
        passing = _may_pass(error)
        # Keys may have been renewed where they come from, and S3 does not always say that it wants that.
        renewed = (not passing or isinstance(error, PermissionError)) and keyring.renew(self.credentials, keys)
        return passing or renewed


def filesystem_of(url: str, credentials: str | None = None) -> Any:
    """Open the file system that a place is on.

    Args:
        url: a path, or `s3://bucket/prefix`, taken as it stands.
        credentials: name under which `keyring` holds those for S3; None for AWS's own.

    Raises:
        SettingsError: the URL is of another kind.
        StoreError: nothing is held under the name.
    """
    if not is_on_s3(url):
        return LocalFileSystem()
    # It takes a while to import.
    from s3fs import S3FileSystem  # noqa: PLC0415

    return S3FileSystem(skip_instance_cache=True, **_S3_OPTIONS, **keyring.options(credentials))


def root_of(url: str) -> str:
    """Where a URL begins: a path from the root on, or a bucket and prefix.

    Raises:
        SettingsError: the URL is of another kind, or in a home folder that is not known.
    """
    if is_on_s3(url):
        return url.partition("://")[2].rstrip("/")
    try:
        return str(absolute(url))
    except RuntimeError:
        raise SettingsError(f"{url}: there is no such home folder") from None


def _waits(patience: float) -> Iterator[float]:
    until, wait = time.monotonic() + patience, _FIRST_WAIT
    while time.monotonic() < until:
        yield wait * random.uniform(0.5, 1.5)  # noqa: S311  (no secret)
        wait = min(2 * wait, _LONGEST_WAIT)


def _is_a_servers(error: Exception) -> bool:
    """Whether a disk, a server or the way there has failed, not this code."""
    clients = {kind.__module__.partition(".")[0] for kind in type(error).__mro__} & {
        "botocore",
        "aiobotocore",
        "aiohttp",
    }
    return isinstance(error, OSError) or bool(clients)


def _may_pass(error: Exception) -> bool:
    # What S3 refuses by right is refused again, but for credentials that have run out.
    if isinstance(error, PermissionError):
        return "expired" in str(error).lower()
    if isinstance(error, OSError):
        return error.errno not in _REFUSALS
    return bool({kind.__name__ for kind in type(error).__mro__} & _PASSING)


def _reason(error: Exception) -> str:
    if type(error).__name__ == "NoCredentialsError":
        return _NO_CREDENTIALS
    return (isinstance(error, OSError) and error.strerror) or first_line(error)


def _list_disk(root: str, folder: Path, pass_by: Callable[[str], None] | None) -> list[Entry]:
    def refuse(error: OSError) -> None:
        if isinstance(error, PermissionError) and pass_by is not None and error.filename != str(folder):
            pass_by(str(Path(error.filename).relative_to(root)))
        # Another run may have removed it.
        elif not isinstance(error, FileNotFoundError):
            raise error

    found = []
    for parent, _, names in os.walk(folder, onerror=refuse):
        for name in names:
            path = Path(parent, name)
            try:
                info = path.lstat()
            except OSError as error:
                refuse(error)
                continue
            if stat.S_ISREG(info.st_mode):
                found.append(Entry(str(path.relative_to(root)), info.st_size, info.st_mtime))
    return found


def _is_draft(name: str) -> bool:
    return DRAFT.fullmatch(name) is not None


def _move(file: Path, path: Path) -> None:
    _make_folder(path.parent)
    with file.open("rb") as written:
        os.fsync(written.fileno())
    file.replace(path)
    _settle(path.parent)


def _make_folder(folder: Path) -> None:
    if not folder.is_dir():
        _make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        _settle(folder.parent)


def _settle(folder: Path) -> None:
    """Have a folder's names outlast a loss of power, where its file system can."""
    # One that may not be listed cannot be opened.
    with suppress(PermissionError):
        opened = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(opened)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOTSUP):
                raise
        finally:
            os.close(opened)


def _new_file(path: Path) -> BinaryIO:
    _make_folder(path.parent)
    try:
        return path.open("xb")
    except FileNotFoundError:
        # One that prunes has removed the folder just now, which it had emptied.
        _make_folder(path.parent)
        return path.open("xb")


def _replace_file(path: Path, data: bytes | memoryview) -> None:
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with _new_file(temporary) as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _settle(path.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
