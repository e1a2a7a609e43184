"""What is in a store, whether it is whole, and what may go."""

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from operator import attrgetter

from tasks.core.base.errors import StoreError
from tasks.core.base.progress import Progress, report
from tasks.core.base.settings import SYNTHETIC, RunSettings
from tasks.core.model.series import SERIES, spared
from tasks.core.storage.files import Entry
from tasks.core.storage.runs import RUNS, RunMark, keep_folders, marks
from tasks.core.storage.store import MANIFEST, MARKER, Store, is_folder, may_be_result, store_of

_DAY = 24 * 3600.0
# Manifests read at the same time: on S3 each takes a request, and a large run leaves many.
_AT_ONCE = 16
# Of a store, and not made by a stage from other results of it.
_OURS = (RUNS, SERIES, SYNTHETIC, MARKER)
_COUNTS = {"vocabulary", "streaming", "matrix", "gene_order"}


@dataclass(frozen=True)
class Contents:
    """Results, files and bytes of a stage, or of what a run used."""

    name: str
    results: int
    files: int
    size: int


@dataclass(frozen=True)
class Survey:
    """All that lies in a store.

    Attributes:
        results: of stages, by folder: the manifest, and what it names there.
        ours: files that are of the store as well.
        others: files that are of no result: left by others, or by a run that was killed.
        unread: paths that may not be looked at.
    """

    results: dict[str, list[Entry]]
    ours: list[Entry]
    others: list[Entry]
    unread: list[str]

    @cached_property
    def sizes(self) -> dict[str, int]:
        """Bytes of each result."""
        return {folder: sum(entry.size for entry in entries) for folder, entries in self.results.items()}


def survey(store: Store) -> Survey:
    """Look at all that lies in a store.

    Raises:
        StoreError: it is none.
    """
    store.check()
    by_folder: defaultdict[str, list[Entry]] = defaultdict(list)
    unread: list[str] = []
    for entry in store.files.walk(pass_by=unread.append):
        by_folder[entry.path.rpartition("/")[0]].append(entry)
    folders = [folder for folder, entries in by_folder.items() if _has_manifest(folder, entries)]
    results = {}
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        manifests = dict(zip(folders, pool.map(store.named, folders), strict=True))
    for folder, named in manifests.items():
        if named is not None:
            paths = {f"{folder}/{MANIFEST}", *(ref.path for ref in named)}
            results[folder] = [entry for entry in by_folder[folder] if entry.path in paths]
            by_folder[folder] = [entry for entry in by_folder[folder] if entry.path not in paths]
    rest = [entry for entries in by_folder.values() for entry in entries]
    ours = [entry for entry in rest if entry.path.partition("/")[0] in _OURS]
    return Survey(results, ours, [entry for entry in rest if entry.path.partition("/")[0] not in _OURS], unread)


def by_stage(found: Survey) -> list[Contents]:
    """Count what each stage has left, and what else is the store's."""
    results = Counter(folder.partition("/")[0] for folder in found.results)
    files, sizes = Counter[str](), Counter[str]()
    for entry in (*found.ours, *chain.from_iterable(found.results.values())):
        stage, _, within = entry.path.partition("/")
        if within:
            files[stage] += 1
            sizes[stage] += entry.size
    return [Contents(name, results[name], files[name], sizes[name]) for name in sorted(files)]


def by_run(store: Store, found: Survey) -> list[tuple[str, RunMark, Contents]]:
    """Count what each run that ended well used; results that several used count for each."""

    def used(name: str, mark: RunMark) -> Contents:
        there = [folder for folder in mark.folders if folder in found.results]
        files = sum(len(found.results[folder]) for folder in there)
        return Contents(name, len(there), files, sum(found.sizes[folder] for folder in there))

    return [(name, mark, used(name, mark)) for name, mark in marks(store)]


def verify(store: Store, pass_by: Callable[[str], None]) -> Iterator[str]:
    """Read every result's objects, and say of each damaged one what is wrong; it is made again when it is needed.

    Args:
        store: to read.
        pass_by: told of each path that may not be looked at, and by its name is of no result.

    Raises:
        StoreError: it is no store; or, once all else is read, what may be a result may not be looked at.
    """
    store.check()
    unread: list[str] = []
    for entry in list(store.files.walk(pass_by=unread.append)):
        folder, _, name = entry.path.rpartition("/")
        if name == MANIFEST and is_folder(folder):
            yield from store.damaged(folder)
    for path in unread:
        if may_be_result(path):
            raise StoreError(f"cannot read {store.locate(path)}, which may hold results: permission denied")
        pass_by(path)


def prunable(store: Store, found: Survey, days: float) -> dict[str, int]:
    """Results that no run of the last so many days used or made, nor the next of a series needs; bytes in each.

    Raises:
        StoreError: a run is at work; what it needs cannot be known yet.
    """
    for name, mark in marks(store):
        if mark.is_running:
            raise StoreError(f"run {name} is at work on {store.url}: try again when it has ended")
    since, recent = time.time() - days * _DAY, [mark for _, mark in marks(store) if mark.since_seen <= days * _DAY]
    needed = spared(store) | {folder for mark in recent for folder in mark.folders}
    return {
        folder: found.sizes[folder]
        for folder, entries in found.results.items()
        if folder not in needed and max(map(attrgetter("modified"), entries)) < since
    }


def prune(store: Store, found: Survey, days: float) -> dict[str, int]:
    """Remove what is prunable; give what was removed."""
    removed = prunable(store, found, days)
    store.remove(*removed)
    old = {f"{RUNS}/{name}.json" for name, mark in marks(store) if mark.since_seen > days * _DAY}
    for entry in found.ours:
        if entry.path in old:
            store.files.remove(entry.path)
    return removed


def keep_only(settings: RunSettings, run: str) -> None:
    """Remove what a run need not leave, where no other run uses it."""
    if settings.keep_intermediates == "all":
        return
    store = store_of(settings)
    others = dict(marks(store))
    mine = others.pop(run, None)
    kinds = _COUNTS if settings.keep_intermediates == "counts" else set()
    kept = [folder for folder in mine.folders if folder.partition("/")[0] in kinds] if mine else []
    if mine is not None:
        # Before any is removed: no other run is to keep what this one does not, however this one goes on.
        keep_folders(store, run, mine, kept)
    at_work = [name for name, mark in others.items() if mark.is_running]
    if at_work or mine is None:
        # What one needs that is at work cannot be known yet.
        why = f"for run {at_work[0]} is at work there" if at_work else "for the mark of this run is gone"
        report(Progress("store", note=f"all intermediates are kept, {why}"))
        return
    needed = spared(store).union(kept, *(mark.folders for mark in others.values()))
    store.remove(*(folder for folder in mine.folders if folder not in needed))


def _has_manifest(folder: str, entries: Iterable[Entry]) -> bool:
    return is_folder(folder) and any(entry.path == f"{folder}/{MANIFEST}" for entry in entries)
