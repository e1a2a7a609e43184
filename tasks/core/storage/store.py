"""Objects on a local disk or S3, found by what made them, checked when read.

A stage's result lies in one folder, `<stage>/<key>/`: data objects, and `manifest.json`, written last, that holds
the stage's result as JSON. The key is a digest of all that made the result, so the same work is found again. Two runs
that make the same result at once are both right: each object appears whole, and is the same from either.

A marker at its root makes a place a store. Nothing that was read there is taken on trust, and nothing is ever removed
but objects that a manifest names in its own folder, and that manifest.
"""

import hashlib
import json
import re
from collections import defaultdict, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, is_dataclass
from functools import cached_property, lru_cache
from typing import Any, Generic, TypeVar

import xxhash
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tasks.core.base.environment import (
    collected_environments,
    collecting_environments,
    environment,
    told_environments,
)
from tasks.core.base.errors import CorruptObjectError, StoreError
from tasks.core.base.settings import RunSettings
from tasks.core.storage.files import Files, root_of

MARKER, FORMAT = "tahoe-store.json", 1
MANIFEST = "manifest.json"
PATIENCE = 60.0
# Files removed at the same time, of so many results: on S3 each takes a request, and a large run leaves many.
_AT_ONCE, _TOGETHER = 16, 1_000
_STAGE = r"[a-z][a-z0-9_]*"
_FOLDER = rf"{_STAGE}/[0-9a-f]{{32}}"
_OBJECT = r"[A-Za-z0-9_][A-Za-z0-9_.-]*"


class Reference(BaseModel):
    """A small, immutable, JSON-serialisable value that may cross a task boundary."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ObjectRef(Reference):
    """One object of a stage's result: its path below the root, its size and the xxh3-128 checksum of its bytes."""

    path: str = Field(pattern=f"^{_FOLDER}/{_OBJECT}$", max_length=200)
    size: int = Field(ge=0)
    checksum: str = Field(pattern="^[0-9a-f]{32}$")
    rows: int = Field(ge=0)

    @property
    def folder(self) -> str:
        """The folder of the result that it is of."""
        return self.path.rpartition("/")[0]


class StageKey(Reference):
    """What makes a stage's result: the stage, its code's version and all its inputs by value or by key."""

    stage: str = Field(pattern=f"^{_STAGE}$")
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


class Kept(Reference):
    """An object that is found by its bytes alone."""

    object: ObjectRef


class _Marker(BaseModel):
    format: int = Field(strict=True)


class _Manifest(BaseModel):
    made_by: StageKey
    environments: Any = None
    result: dict[str, Any]


R = TypeVar("R", bound=Reference)


@dataclass(frozen=True)
class Outcome(Generic[R]):
    """A stage's result, whether an earlier run had left it, and where; what made it, as `environment` describes it."""

    result: R
    cached: bool
    environments: frozenset[str] = frozenset()
    place: str = "store"


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
    def at(cls, url: str, patience: float = PATIENCE, credentials: str | None = None) -> "Store":
        """Give the store at a URL, one object a process."""
        return _opened(url, root_of(url), patience, credentials)

    def __reduce__(self) -> tuple[Callable[..., "Store"], tuple[str, float, str | None]]:
        # Another process opens it for itself, with the credentials that it holds, and may work in another folder.
        url = self.files.root if self.files.is_local else self.url
        return Store.at, (url, self.files.patience, self.files.credentials)

    def locate(self, path: str) -> str:
        """Full path of an object, for messages and for readers outside this class."""
        return self.files.locate(path)

    def claim(self) -> None:
        """Make a place that is new or empty a store.

        Raises:
            StoreError: it is no store and not empty, or a store of another format, or a new one cannot be written.
        """
        if not self._is_marked():
            there = self.files.first()
            # Another run may just have made it a store; it does so before all else.
            if there is not None and not self._is_marked():
                raise StoreError(
                    f"--store {self.url} is no store, for it has no {MARKER}, and it is not empty: {there!r} is there; "
                    "name a new or an empty folder; if an earlier version made this one, it can be removed by hand"
                )
            self.files.write(MARKER, json.dumps({"format": FORMAT}).encode())

    def check(self) -> None:
        """Raise StoreError unless the place is a store of the format that this code knows."""
        if not self._is_marked():
            raise StoreError(
                f"--store {self.url} is no store: it has no {MARKER}; name another, and if an earlier version made "
                "this one, with folders such as runs, streaming and matrix, remove it by hand"
            )

    def put(self, path: str, data: bytes | memoryview, rows: int = 0) -> ObjectRef:
        """Write an object whole or not at all, and return its reference."""
        ref = ObjectRef(path=path, size=len(data), checksum=_checksum(data), rows=rows)
        self.files.write(path, data)
        return ref

    def keep(self, stage: str, name: str, data: bytes | memoryview, rows: int = 0) -> ObjectRef:
        """Leave an object that is found by its bytes, unless it is there, and return its reference."""
        key = StageKey(stage=stage, version=1, inputs={"sha256": hashlib.sha256(data).hexdigest()})
        return self.answer(key, Kept, lambda: Kept(object=self.put(f"{key.folder}/{name}", data, rows))).result.object

    def get(self, ref: ObjectRef) -> bytes:
        """Read an object whole; the stage that made it counts as not done where it is not.

        Raises:
            CorruptObjectError: it is missing or not what its reference says.
            StoreError: the store cannot be read.
        """
        try:
            return self.read(ref)
        except CorruptObjectError:
            self.forget(ref.folder)
            raise

    def read(self, ref: ObjectRef) -> bytes:
        """Read an object whole, and change nothing.

        Raises:
            CorruptObjectError: it is missing or not what its reference says.
            StoreError: the store cannot be read.
        """
        where = self.locate(ref.path)
        data = self.files.read(ref.path)
        if data is None:
            how = "a link, or lies behind one" if self.files.is_linked(ref.path) else "gone"
            raise CorruptObjectError(f"{where} is {how}")
        if len(data) != ref.size or _checksum(data) != ref.checksum:
            raise CorruptObjectError(
                f"{where} is damaged: {len(data):,} bytes with checksum {_checksum(data)}, "
                f"written were {ref.size:,} with {ref.checksum}"
            )
        return data

    def finish(self, key: StageKey, result: R, environments: Iterable[str] = ()) -> Outcome[R]:
        """Write a stage's manifest, by which later runs find its result, and what has made it.

        Args:
            key: of the result.
            result: what it is.
            environments: of parts that were found, beside those of this process and of its workers.
        """
        made_in = frozenset({environment(), *collected_environments(), *environments})
        made_by = {"made_by": key.model_dump(mode="json"), "environments": [json.loads(one) for one in sorted(made_in)]}
        text = json.dumps(made_by | {"result": result.model_dump(mode="json")})
        self.files.write(f"{key.folder}/{MANIFEST}", text.encode())
        return Outcome(result, cached=False, environments=made_in)

    def find(self, key: StageKey, kind: type[R]) -> "Outcome[R] | None":
        """Give the result that an earlier run left for a key, or None if it, or any object of it, is not whole."""
        manifest = self._manifest(key.folder)
        if manifest is None:
            return None
        try:
            result = kind.model_validate(manifest.result)
        except ValidationError:
            return None
        if not self.are_there(objects_of(result)):
            return None
        return Outcome(result, cached=True, environments=told_environments(manifest.environments))

    def are_there(self, refs: Iterable[ObjectRef]) -> bool:
        """Say whether objects are there, in the size that they were written in."""
        by_folder: defaultdict[str, list[ObjectRef]] = defaultdict(list)
        for ref in refs:
            by_folder[ref.folder].append(ref)
        return all(self._are_in(folder, inside) for folder, inside in by_folder.items())

    def answer(
        self, key: StageKey, kind: type[R], make: Callable[[], R], environments: Collection[str] = ()
    ) -> "Outcome[R]":
        """Give the result that another run left for a key, or make it and leave it for others.

        Args:
            key: of the result.
            kind: of the result.
            make: makes it.
            environments: of parts that others had made, and that `make` has used by the time that it is done.
        """
        found = self.find(key, kind)
        if found is not None:
            return found
        with collecting_environments():
            return self.finish(key, make(), environments)

    def named(self, folder: str) -> list[ObjectRef] | None:
        """Objects in the folder of a stage's result that its manifest names; None where it has no manifest of ours."""
        manifest = self._manifest(folder)
        return None if manifest is None else [ref for ref in _refs_in(manifest.result) if ref.folder == folder]

    def remove(self, *folders: str) -> None:
        """Remove stages' results: what their manifests name in their folders, and then those."""
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            for first in range(0, len(folders), _TOGETHER):
                some = folders[first : first + _TOGETHER]
                named = dict(zip(some, pool.map(self.named, some), strict=True))
                ours = {folder: refs for folder, refs in named.items() if refs is not None}
                deque(pool.map(self.files.remove, [ref.path for refs in ours.values() for ref in refs]), maxlen=0)
                deque(pool.map(self._forget_emptied, ours), maxlen=0)

    def forget(self, folder: str) -> None:
        """Have a stage count as not done, by removing the manifest of its result."""
        self.files.remove(f"{folder}/{MANIFEST}")

    def damaged(self, folder: str) -> list[str]:
        """Read all that a manifest names in its folder; say of each damaged object, or of it, what is wrong.

        Where there are any, the stage counts as not done.
        """
        named, told = self.named(folder), []
        if named is None:
            return [f"{self.locate(folder)}/{MANIFEST} is no manifest of this result"]
        for ref in named:
            try:
                self.read(ref)
            except CorruptObjectError as error:
                told.append(str(error))
        if told:
            self.forget(folder)
        return told

    def _forget_emptied(self, folder: str) -> None:
        self.forget(folder)
        self.files.remove_emptied(folder)

    def _is_marked(self) -> bool:
        text = self.files.read(MARKER)
        if text is None:
            return False
        try:
            found = _Marker.model_validate_json(text).format
        except ValidationError:
            raise StoreError(f"{self.locate(MARKER)} does not say of what format the store is: name another") from None
        if found != FORMAT:
            raise StoreError(f"--store {self.url} is of format {found}, and this code knows {FORMAT}: name another")
        return True

    def _manifest(self, folder: str) -> _Manifest | None:
        if not is_folder(folder):
            return None
        try:
            manifest = _Manifest.model_validate_json(self.files.read(f"{folder}/{MANIFEST}") or b"")
        except ValidationError:
            return None
        return manifest if manifest.made_by.folder == folder else None

    def _are_in(self, folder: str, refs: list[ObjectRef]) -> bool:
        if len(refs) == 1:
            return self.files.size(refs[0].path) == refs[0].size
        # On S3 a request lists a thousand objects, where each by itself would take one.
        sizes = {entry.path: entry.size for entry in self.files.walk(folder)}
        return all(sizes.get(ref.path) == ref.size for ref in refs)


# A relative path is of another place once the process works in another folder.
@lru_cache(maxsize=8)
def _opened(url: str, root: str, patience: float, credentials: str | None) -> Store:  # noqa: ARG001
    return Store(url, patience, credentials)


def store_of(settings: RunSettings) -> Store:
    """Where a run keeps its intermediates."""
    return Store.at(settings.store, settings.patience, settings.credentials)


def output_of(settings: RunSettings) -> Store:
    """Where a run leaves its results."""
    return Store.at(settings.output, settings.patience, settings.credentials)


def is_folder(path: str) -> bool:
    """Whether a path is that of a stage's result."""
    return re.fullmatch(_FOLDER, path) is not None


def may_be_result(path: str) -> bool:
    """Whether a path lies where results do, as far as its name tells."""
    return re.fullmatch(_STAGE, path.partition("/")[0]) is not None


def _refs_in(result: Any) -> Iterator[ObjectRef]:
    """Every object reference in a stage's result, of whatever stage."""
    values = [result]
    while values:
        value = values.pop()
        if isinstance(value, dict) and value.keys() == ObjectRef.model_fields.keys():
            with suppress(ValidationError):
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
    elif isinstance(value, dict):
        yield from objects_of(list(value.values()))
    elif isinstance(value, Sequence) and not isinstance(value, str | bytes):
        for item in value:
            yield from objects_of(item)
    elif not isinstance(value, str | bytes | int | float | None):
        # What it holds would count as used by nobody.
        raise TypeError(f"objects in a {type(value).__name__} are not looked for")


def _checksum(data: bytes | memoryview) -> str:
    return xxhash.xxh3_128_hexdigest(data)
