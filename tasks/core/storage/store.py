"""Objects on a local disk or S3, found by what made them, checked when read.

A stage's result lies in one folder, `<stage>/<key>/`: data objects, and `manifest.json`, written last, that holds
the stage's result as JSON. The key is a digest of all that made the result, so the same work is found again.
"""

import hashlib
import json
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, is_dataclass
from functools import cached_property, lru_cache
from typing import Any, Generic, Self, TypeVar

import xxhash
from pydantic import BaseModel, ConfigDict, ValidationError

from tasks.core.base.errors import CorruptObjectError
from tasks.core.base.settings import RunSettings
from tasks.core.storage.files import Files
from tasks.core.storage.lease import Lease, one_at_a_time

MANIFEST = "manifest.json"
# Where damaged objects are put, for whoever wants to know what happened to them.
QUARANTINE = "quarantine"
PATIENCE = 60.0


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

    @cached_property
    def digest(self) -> str:
        """Hexadecimal digest, the same for the same inputs whatever their order."""
        # Asked for with each object that is put, and the inputs may be the keys of ten thousand partitions.
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
    """Objects and stages' results below a URL.

    Args:
        url: a path, or `s3://bucket/prefix`, taken as it stands.
        patience: seconds for which to go on trying where a server does not answer, or not well.
        credentials: name under which this process holds those for S3; None for AWS's own.

    Raises:
        SettingsError: the URL is of another kind.
    """

    def __init__(self, url: str, patience: float = PATIENCE, credentials: str | None = None) -> None:
        self.url = url
        self.files = Files(url, patience, credentials)

    @classmethod
    @lru_cache(maxsize=8)
    def at(cls, url: str, patience: float = PATIENCE, credentials: str | None = None) -> Self:
        """Give the store at a URL, one object a process."""
        return cls(url, patience, credentials)

    def __reduce__(self) -> tuple[Callable[..., "Store"], tuple[str, float, str | None]]:
        # Another process opens it for itself, with the credentials that it holds.
        return _store_at, (self.url, self.files.patience, self.files.credentials)

    def locate(self, path: str) -> str:
        """Full path of an object, for messages and for readers outside this class."""
        return self.files.locate(path)

    def put(self, path: str, data: bytes | memoryview, rows: int = 0) -> ObjectRef:
        """Write an object whole or not at all, and return its reference."""
        self.files.write(path, data)
        return ObjectRef(path=path, size=len(data), checksum=_checksum(data), rows=rows)

    def get(self, ref: ObjectRef) -> bytes:
        """Read an object whole.

        Raises:
            CorruptObjectError: it is missing or not what its reference says; it is put aside, and the stage that made
                it counts as not done.
            StoreError: the store cannot be read.
        """
        data = self.files.read(ref.path)
        if data is None:
            self._forget(ref)
            raise CorruptObjectError(f"{self.locate(ref.path)} is gone")
        if len(data) != ref.size or _checksum(data) != ref.checksum:
            self._forget(ref)
            raise CorruptObjectError(
                f"{self.locate(ref.path)} is damaged: {len(data):,} bytes with checksum {_checksum(data)}, "
                f"written were {ref.size:,} with {ref.checksum}"
            )
        return data

    def finish(self, key: StageKey, result: Reference) -> None:
        """Write a stage's manifest, by which later runs find its result."""
        text = json.dumps({"made_by": key.model_dump(mode="json"), "result": result.model_dump(mode="json")})
        self.files.write(f"{key.folder}/{MANIFEST}", text.encode())

    def find(self, key: StageKey, kind: type[R]) -> R | None:
        """Give the result that an earlier run left for a key, or None if it, or any object of it, is not whole."""
        text = self.files.read(f"{key.folder}/{MANIFEST}")
        try:
            result = kind.model_validate(json.loads(text or "")["result"])
        except (KeyError, TypeError, ValueError, ValidationError):
            return None
        return result if self.are_there(objects_of(result)) else None

    def are_there(self, refs: Iterable[ObjectRef]) -> bool:
        """Say whether objects are there, in the size that they were written in."""
        by_folder: defaultdict[str, list[ObjectRef]] = defaultdict(list)
        for ref in refs:
            by_folder[ref.path.rpartition("/")[0]].append(ref)
        return all(self._are_in(folder, inside) for folder, inside in by_folder.items())

    def _are_in(self, folder: str, refs: list[ObjectRef]) -> bool:
        if len(refs) == 1:
            return self.files.size(refs[0].path) == refs[0].size
        # On S3 a request lists a thousand objects, where each by itself would take one.
        sizes = {entry.path: entry.size for entry in self.files.walk(folder)}
        return all(sizes.get(ref.path) == ref.size for ref in refs)

    def answer(self, key: StageKey, kind: type[R], make: Callable[[], R]) -> "Outcome[R]":
        """Give the result that another run left for a key, or make it and leave it for others.

        Where another run is making it, its result is waited for, so `make` must not ask for an answer itself.
        """
        found = self.find(key, kind)
        if found is not None:
            return Outcome(found, cached=True)
        with one_at_a_time(Lease(self.files, key.stage, key.digest), lambda: self.find(key, kind)) as found:
            if found is not None:
                return Outcome(found, cached=True)
            result = make()
            self.finish(key, result)
            return Outcome(result, cached=False)

    def remove(self, folder: str) -> None:
        """Remove the folder of a stage's result, its manifest first so that it never counts as whole."""
        self.files.remove(f"{folder}/{MANIFEST}")
        self.files.remove_folder(folder)

    def check_writable(self) -> None:
        """Raise StoreError unless an object can be written here."""
        probe = f".probe-{uuid.uuid4().hex}"
        self.files.write(probe, b"")
        self.files.remove(probe)

    def _forget(self, ref: ObjectRef) -> None:
        folder, _, name = ref.path.rpartition("/")
        # Without its manifest the stage that made the object counts as not done.
        self.files.remove(f"{folder}/{MANIFEST}")
        self.files.set_aside(ref.path, f"{QUARANTINE}/{folder}/{uuid.uuid4().hex[:8]}-{name}")


def _store_at(url: str, patience: float, credentials: str | None) -> Store:
    return Store.at(url, patience, credentials)


def store_of(settings: RunSettings) -> Store:
    """Where a run keeps its intermediates."""
    return Store.at(settings.store, settings.patience, settings.credentials)


def output_of(settings: RunSettings) -> Store:
    """Where a run leaves its results."""
    return Store.at(settings.output, settings.patience, settings.credentials)


def read_refs(manifest: bytes) -> Iterator[ObjectRef]:
    """Every object reference in a manifest, of whatever stage."""
    try:
        values = [json.loads(manifest)]
    except ValueError:
        return
    while values:
        value = values.pop()
        if isinstance(value, dict) and value.keys() == ObjectRef.model_fields.keys():
            yield ObjectRef.model_validate(value)
        elif isinstance(value, dict):
            values += value.values()
        elif isinstance(value, list):
            values += value


def objects_of(value: object) -> Iterator[ObjectRef]:
    """Every object reference inside references, however deep."""
    if isinstance(value, ObjectRef):
        yield value
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from objects_of(getattr(value, name))
    elif is_dataclass(value):
        yield from objects_of(list(vars(value).values()))
    elif isinstance(value, tuple | list):
        for item in value:
            yield from objects_of(item)
    elif isinstance(value, dict):
        yield from objects_of(list(value.values()))


def _checksum(data: bytes | memoryview) -> str:
    return xxhash.xxh3_128_hexdigest(data)
