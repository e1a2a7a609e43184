"""Objects on a local disk or S3, found by what made them, checked when read.

A stage's result lies in one folder, `<stage>/<key>/`: data objects, and `manifest.json`, written last, that holds
the stage's result as JSON. The key is a digest of all that made the result, so the same work is found again.
"""

import hashlib
import json
import uuid
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, is_dataclass
from functools import cached_property, lru_cache
from typing import Any, Generic, Self, TypeVar

import xxhash
from pydantic import BaseModel, ConfigDict, ValidationError

from tasks.core.base.environment import environment, told_environments
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
    """A stage's result, whether an earlier run had left it, and what made it, as `environment` describes it."""

    result: R
    cached: bool
    environments: frozenset[str] = frozenset()


class Store:
    """Objects and stages' results below a URL.

    Args:
        url: a path, or a URL that fsspec knows, such as `s3://bucket/prefix`.
        patience: seconds for which to go on trying where a server does not answer, or not well.

    Raises:
        StoreError: the URL's scheme is unknown.
    """

    def __init__(self, url: str, patience: float = PATIENCE) -> None:
        self.url = url
        self.files = Files(url, patience)

    @classmethod
    @lru_cache(maxsize=8)
    def at(cls, url: str, patience: float = PATIENCE) -> Self:
        """Give the store at a URL, one object a process."""
        return cls(url, patience)

    def __reduce__(self) -> tuple[Callable[..., "Store"], tuple[str, float]]:
        # Another process opens it for itself, with the credentials that it finds there.
        return _store_at, (self.url, self.files.patience)

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

    def finish(self, key: StageKey, result: Reference, environments: Iterable[str] = ()) -> None:
        """Write a stage's manifest, by which later runs find its result, and what beside this process has made it."""
        made_in = [json.loads(text) for text in sorted({environment(), *environments})]
        made_by = {"made_by": key.model_dump(mode="json"), "environments": made_in}
        text = json.dumps(made_by | {"result": result.model_dump(mode="json")})
        self.files.write(f"{key.folder}/{MANIFEST}", text.encode())

    def find(self, key: StageKey, kind: type[R]) -> "Outcome[R] | None":
        """Give the result that an earlier run left for a key, or None if it, or any object of it, is not whole."""
        text = self.files.read(f"{key.folder}/{MANIFEST}")
        try:
            manifest = json.loads(text or "")
            result = kind.model_validate(manifest["result"])
            made_in = told_environments(manifest.get("environments"))
        except (KeyError, TypeError, ValueError, ValidationError):
            return None
        return Outcome(result, cached=True, environments=made_in) if self.are_there(objects_of(result)) else None

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

    def answer(
        self, key: StageKey, kind: type[R], make: Callable[[], R], environments: Collection[str] = ()
    ) -> "Outcome[R]":
        """Give the result that another run left for a key, or make it and leave it for others.

        Where another run is making it, its result is waited for, so `make` must not ask for an answer itself.

        Args:
            key: of the result.
            kind: of the result.
            make: makes it.
            environments: of parts that others had made, and that `make` has used by the time that it is done.
        """
        found = self.find(key, kind)
        if found is not None:
            return found
        with one_at_a_time(Lease(self.files, key.stage, key.digest), lambda: self.find(key, kind)) as found:
            if found is not None:
                return found
            result = make()
            self.finish(key, result, environments)
            return Outcome(result, cached=False, environments=frozenset({environment(), *environments}))

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


def _store_at(url: str, patience: float) -> Store:
    return Store.at(url, patience)


def store_of(settings: RunSettings) -> Store:
    """Where a run keeps its intermediates."""
    return Store.at(settings.store, settings.patience)


def output_of(settings: RunSettings) -> Store:
    """Where a run leaves its results."""
    return Store.at(settings.output, settings.patience)


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
