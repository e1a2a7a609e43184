"""What is in a store, whether it is whole, and what may go."""

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from tasks.core.base.errors import CorruptObjectError, StoreError
from tasks.core.base.settings import RunSettings
from tasks.core.model.series import SERIES, spared
from tasks.core.storage.files import Entry
from tasks.core.storage.lease import LEASES
from tasks.core.storage.runs import RUNS, RunMark, marks
from tasks.core.storage.store import MANIFEST, QUARANTINE, Store, read_refs, store_of

_DAY = 24 * 3600.0
# Folders removed at the same time.
_AT_ONCE = 16
# Not made by a stage from other results of the store.
_SPARED = {RUNS, LEASES, SERIES, "synthetic"}
_COUNTS = {"vocabulary", "streaming", "matrix", "gene_order"}


@dataclass(frozen=True)
class Contents:
    """Results, files and bytes of a stage, or of what a run used."""

    name: str
    results: int
    files: int
    size: int


def by_stage(store: Store) -> list[Contents]:
    """Count what each stage has left."""
    return _count(store, lambda entry: [entry.path.partition("/")[0]])


def by_run(store: Store) -> list[tuple[str, RunMark, Contents]]:
    """Count what each run that ended well used; results that several used count for each."""
    known = dict(marks(store))
    users: dict[str, list[str]] = {}
    for name, mark in known.items():
        for folder in mark.folders:
            users.setdefault(folder, []).append(name)
    used = {contents.name: contents for contents in _count(store, lambda entry: users.get(_folder(entry), []))}
    return [(name, mark, used.get(name, Contents(name, 0, 0, 0))) for name, mark in known.items()]


def verify(store: Store) -> Iterator[str]:
    """Read every result's objects, and say of each damaged one what is wrong; it is put aside, to be made again."""
    for entry in list(store.files.walk()):
        if entry.path.endswith(f"/{MANIFEST}"):
            for ref in read_refs(store.files.read(entry.path) or b""):
                try:
                    store.get(ref)
                except CorruptObjectError as error:
                    yield str(error)


def prunable(store: Store, days: float) -> dict[str, int]:
    """Folders that no run of the last so many days used or made, nor the next of a series needs; bytes in each.

    Raises:
        StoreError: a run is at work; what it needs cannot be known yet.
    """
    _refuse_while_running(store)
    since = time.time() - days * _DAY
    needed = spared(store) | {folder for _, mark in marks(store) if mark.seen >= since for folder in mark.folders}
    sizes: Counter[str] = Counter()
    newest: dict[str, float] = {}
    for entry in store.files.walk():
        folder = _folder(entry)
        if folder.partition("/")[0] not in _SPARED:
            sizes[folder] += entry.size
            newest[folder] = max(newest.get(folder, 0.0), entry.modified)
    return {folder: sizes[folder] for folder in newest if folder not in needed and newest[folder] < since}


def prune(store: Store, days: float) -> dict[str, int]:
    """Remove what is prunable; give what was removed."""
    removed = prunable(store, days)
    _remove(store, removed)
    since = time.time() - days * _DAY
    for name, mark in list(marks(store)):
        if mark.seen < since:
            store.files.remove(f"{RUNS}/{name}.json")
    for entry in list(store.files.walk(LEASES)):
        if entry.modified < since:
            store.files.remove(entry.path)
    return removed


def keep_only(settings: RunSettings, run: str) -> None:
    """Remove what a run need not leave, where no other run uses it."""
    if settings.keep_intermediates == "all":
        return
    store = store_of(settings)
    known = dict(marks(store))
    if any(mark.is_running for name, mark in known.items() if name != run):
        return
    others = spared(store) | {folder for name, mark in known.items() if name != run for folder in mark.folders}
    kept = _COUNTS if settings.keep_intermediates == "counts" else set()
    spare = kept | _SPARED
    _remove(
        store,
        [name for name in known[run].folders if name not in others and name.partition("/")[0] not in spare],
    )


def _remove(store: Store, folders: Iterable[str]) -> None:
    # On S3 each takes some requests, and a large run leaves tens of thousands.
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        deque(pool.map(store.remove, folders), maxlen=0)


def _refuse_while_running(store: Store) -> None:
    for name, mark in marks(store):
        if mark.is_running:
            raise StoreError(f"run {name} is at work on {store.url}: try again when it has ended")


def _count(store: Store, names: Callable[[Entry], list[str]]) -> list[Contents]:
    results: Counter[str] = Counter()
    files: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    for entry in store.files.walk():
        for name in names(entry):
            results[name] += entry.path.endswith(f"/{MANIFEST}")
            files[name] += 1
            sizes[name] += entry.size
    return [Contents(name, results[name], files[name], sizes[name]) for name in sorted(files)]


def _folder(entry: Entry) -> str:
    folder = entry.path.rpartition("/")[0]
    return folder if not folder.startswith(f"{QUARANTINE}/") else QUARANTINE
