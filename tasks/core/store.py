"""Objects on a local disk or S3, found by what made them, checked when read.

A stage's result lies in one folder, `<stage>/<key>/`: data objects, and `manifest.json`, written last, that holds
the stage's result as JSON. The key is a digest of all that made the result, so the same work is found again.
"""

import hashlib
import json
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Generic, Self, TypeVar

import fsspec
import xxhash
from pydantic import BaseModel, ConfigDict, ValidationError

from tasks.core.errors import CorruptObjectError, StoreError, first_line

MANIFEST = "manifest.json"


class Reference(BaseModel):
    """A small, immutable, JSON-serialisable value that may cross a task boundary."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ObjectRef(Reference):
    """One object in a store: its path below the root, its size and the xxh3-128 checksum of its bytes."""

    path: str
    size: int
    checksum: str
    rows: int


class StageKey(Reference):
    """What makes a stage's result: the stage, its code's version and all its inputs by value or by key."""

    stage: str
    version: int
    inputs: dict[str, Any]

    @property
    def digest(self) -> str:
        """Hexadecimal digest, the same for the same inputs whatever their order."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    @property
    def folder(self) -> str:
        """The stage's folder below the root of a store."""
        return f"{self.stage}/{self.digest}"


R = TypeVar("R", bound=Reference)


@dataclass(frozen=True)
class Outcome(Generic[R]):
    """A stage's result, and whether an earlier run had left it."""

    result: R
    cached: bool


class Store:
    """A folder on a local disk or a prefix on S3, behind fsspec.

    Args:
        url: a path, or a URL that fsspec knows, such as `s3://bucket/prefix`.

    Raises:
        StoreError: the URL's scheme is unknown.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        try:
            self.fs, self.root = fsspec.core.url_to_fs(url)
        except (ValueError, ImportError) as error:
            raise StoreError(f"'{url}' is neither a path nor a URL this can write to: {error}") from error

    @classmethod
    @lru_cache(maxsize=8)
    def at(cls, url: str) -> Self:
        """Give the store at a URL, one object a process."""
        return cls(url)

    @property
    def is_local(self) -> bool:
        """Whether the store is a folder on this machine."""
        return "file" in (self.fs.protocol if isinstance(self.fs.protocol, tuple) else (self.fs.protocol,))

    def locate(self, path: str) -> str:
        """Full path of an object, for messages and for readers outside this class."""
        return f"{self.root.rstrip('/')}/{path}"

    def put(self, path: str, data: bytes | memoryview, rows: int = 0) -> ObjectRef:
        """Write an object whole or not at all, and return its reference."""
        with self._named("write", path):
            if self.is_local:
                _replace_file(Path(self.locate(path)), data)
            else:
                self.fs.pipe_file(self.locate(path), bytes(data))
        return ObjectRef(path=path, size=len(data), checksum=_checksum(data), rows=rows)

    def put_file(self, local: Path, path: str) -> None:
        """Move a finished local file into the store."""
        with self._named("write", path):
            if self.is_local:
                local.replace(self.locate(path))
            else:
                self.fs.put_file(str(local), self.locate(path))

    def get(self, ref: ObjectRef) -> bytes:
        """Read an object whole.

        Raises:
            CorruptObjectError: it is missing or not what its reference says.
            StoreError: the store cannot be read.
        """
        with self._named("read", ref.path):
            try:
                data: bytes = self.fs.cat_file(self.locate(ref.path))
            except FileNotFoundError:
                self._forget(ref)
                raise CorruptObjectError(f"{self.locate(ref.path)} is gone; {_REMAKE}") from None
        if len(data) != ref.size or _checksum(data) != ref.checksum:
            self._forget(ref)
            raise CorruptObjectError(
                f"{self.locate(ref.path)} is damaged: {len(data)} bytes with checksum {_checksum(data)}, "
                f"written were {ref.size} with {ref.checksum}; {_REMAKE}"
            )
        return data

    def finish(self, key: StageKey, result: Reference) -> None:
        """Write a stage's manifest, by which later runs find its result."""
        text = json.dumps({"made_by": key.model_dump(mode="json"), "result": result.model_dump(mode="json")})
        self.put(f"{key.folder}/{MANIFEST}", text.encode())

    def find(self, key: StageKey, kind: type[R]) -> R | None:
        """Give the result that an earlier run left for a key, or None if it, or any object of it, is not whole."""
        try:
            text = self.fs.cat_file(self.locate(f"{key.folder}/{MANIFEST}"))
            result = kind.model_validate(json.loads(text)["result"])
        except (FileNotFoundError, KeyError, TypeError, ValueError, ValidationError):
            return None
        except OSError as error:
            raise StoreError(f"cannot read {self.url}: {first_line(error)}") from error
        return result if all(self._is_whole(ref) for ref in objects_of(result)) else None

    def answer(self, key: StageKey, kind: type[R], make: Callable[[], R]) -> "Outcome[R]":
        """Give the result that an earlier run left for a key, or make it and leave it for later ones."""
        found = self.find(key, kind)
        if found is not None:
            return Outcome(found, cached=True)
        result = make()
        self.finish(key, result)
        return Outcome(result, cached=False)

    def remove(self, key: StageKey) -> None:
        """Remove a stage's result, its manifest first."""
        with self._named("remove", key.folder):
            with suppress(FileNotFoundError):
                self.fs.rm_file(self.locate(f"{key.folder}/{MANIFEST}"))
            # A removal that was cut short has left the folder without its manifest.
            with suppress(FileNotFoundError):
                self.fs.rm(self.locate(key.folder), recursive=True)

    def check_writable(self) -> None:
        """Raise StoreError unless an object can be written here."""
        probe = f".probe-{os.getpid()}"
        self.put(probe, b"")
        with self._named("write", probe):
            self.fs.rm_file(self.locate(probe))

    def _forget(self, ref: ObjectRef) -> None:
        # Without its manifest the stage that made the object counts as not done.
        with suppress(FileNotFoundError):
            self.fs.rm_file(self.locate(f"{ref.path.rpartition('/')[0]}/{MANIFEST}"))

    def _is_whole(self, ref: ObjectRef) -> bool:
        try:
            return bool(self.fs.size(self.locate(ref.path)) == ref.size)
        except FileNotFoundError:
            return False

    @contextmanager
    def _named(self, action: str, path: str) -> Iterator[None]:
        try:
            yield
        except StoreError:
            raise
        except OSError as error:
            reason = error.strerror or first_line(error)
            raise StoreError(f"cannot {action} {self.locate(path)}: {reason}") from error


_REMAKE = "it is forgotten, run again to have it made anew"


def objects_of(value: object) -> Iterator[ObjectRef]:
    """Every object reference inside a reference, however deep."""
    if isinstance(value, ObjectRef):
        yield value
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from objects_of(getattr(value, name))
    elif isinstance(value, tuple | list):
        for item in value:
            yield from objects_of(item)


def _checksum(data: bytes | memoryview) -> str:
    return xxhash.xxh3_128_hexdigest(data)


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
