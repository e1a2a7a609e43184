"""A series of recurring runs, each of which begins from the one before.

A run that ends leaves an entry, `series/<series>/runs/<run>.json`, and what it has fitted as an object. The next run
of the series starts its SVD and its K-means there. A run that asks for just what the last one did begins where that one
began, so that it finds all its results in the store.
"""

import hashlib
import json
import re
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence

from pydantic import ValidationError

from tasks.core.base.errors import CorruptObjectError
from tasks.core.base.settings import Settings
from tasks.core.model.drift import Drift, compare
from tasks.core.references.cells import Cells, GeneOrder, Plan
from tasks.core.references.model import Clustering, Fitted, Model
from tasks.core.storage.files import Entry
from tasks.core.storage.runs import folders_of
from tasks.core.storage.store import ObjectRef, Reference, Store, objects_of, store_of

SERIES = "series"
_ENTRY = re.compile(rf"{SERIES}/(?P<series>[^/]+)/runs/[^/]+\.json")
_OF_NUMBERS = {"pca_dim", "clusters", "seed", "svd_tolerance", "svd_max_passes", "partition_cells", "block_cells"}


class SeriesRun(Reference):
    """A run of a series.

    Attributes:
        number: of the run in its series, from 1.
        run: its name in the store.
        ended: seconds since 1970.
        asked: digest of the data and settings.
        explained_variance: summed ratios of the components.
        passes: of the SVD.
        fitted: what it has learnt, an object of its own.
        start: what it began from; None for the first, or where that was lost.
        drift: since the run before; None for the first.
    """

    series: str
    number: int
    run: str
    ended: float
    asked: str
    revision: str
    cells: int
    explained_variance: float
    passes: int
    fitted: ObjectRef
    start: ObjectRef | None
    drift: Drift | None


class Continuation(Reference):
    """How a run continues its series.

    Attributes:
        before: the last run of the series; None for the first.
        unchanged: whether this run asks for just what that one did.
        begins_from: object that holds `start`.
        start: what to begin from; None to begin anew.
        note: what a person wants to know of it.
    """

    before: SeriesRun | None = None
    unchanged: bool = False
    begins_from: ObjectRef | None = None
    start: Fitted | None = None
    note: str = ""


ALONE = Continuation()
"""Of a run that is of no series."""


def continue_series(plan: Plan, settings: Settings) -> Continuation:
    """Find what a run of a series is to begin from."""
    store, series = store_of(settings), str(settings.series)
    before = _last(store, _files(store, series)[series])
    if before is None:
        return Continuation(note=f"the first run of series '{series}'")
    unchanged = before.asked == _asked(plan, settings)
    ref = before.start if unchanged else before.fitted
    start = None if ref is None else _whole(store, ref)
    told = f"run {before.number + 1:,} of series '{series}'"
    if start is None and ref is not None:
        return Continuation(before=before, note=f"{told}: what it was to begin from is gone, so it begins anew")
    if start is not None and start.vocabulary != plan.vocabulary.key:
        return Continuation(before=before, note=f"{told}: the genes are others than before, so it begins anew")
    note = f"{told}, begins from run {before.number:,}"
    if unchanged:
        note = f"nothing has changed since run {before.number:,} of series '{series}'"
    return Continuation(before=before, unchanged=unchanged, begins_from=ref, start=start, note=note)


def fitted(plan: Plan, cells: Sequence[Cells], order: GeneOrder, model: Model, clustering: Clustering) -> Fitted:
    """Put together what a run has learnt."""
    return Fitted(
        vocabulary=plan.vocabulary.key,
        shards={part.shard_name: part.fingerprint for part in plan.partitions},
        cells=tuple(part.key for part in cells),
        order=order,
        model=model,
        clustering=clustering,
    )


def conclude(settings: Settings, run: str, plan: Plan, learnt: Fitted, place: Continuation) -> SeriesRun:
    """Leave an entry for a run that has ended, with its drift; one that learnt the same is the one before once more."""
    store, before = store_of(settings), place.before
    earlier = None if before is None else _whole(store, before.fitted)
    if before is not None and earlier == learnt:
        return before
    comparable = earlier is not None and earlier.vocabulary == learnt.vocabulary
    entry = SeriesRun(
        series=str(settings.series),
        number=1 if before is None else before.number + 1,
        run=run,
        ended=time.time(),
        asked=_asked(plan, settings),
        revision=plan.revision,
        cells=sum(learnt.clustering.sizes),
        explained_variance=sum(learnt.model.explained_variance_ratio),
        passes=learnt.model.passes,
        fitted=store.keep("fitted", "fitted.json", learnt.model_dump_json().encode()),
        start=place.begins_from,
        drift=compare(store, earlier, learnt, settings) if earlier is not None and comparable else None,
    )
    store.files.write(f"{SERIES}/{settings.series}/runs/{run}.json", entry.model_dump_json().encode())
    return entry


def entries(store: Store, series: str) -> Iterator[SeriesRun]:
    """Give the runs of a series, the oldest first."""
    yield from filter(None, (_read(store, file) for file in _files(store, series)[series]))


def spared(store: Store) -> set[str]:
    """Folders of what the next run of any series begins from, or the last one did."""
    lasts = [_last(store, files) for files in _files(store).values()]
    refs = [ref for entry in lasts if entry for ref in (entry.fitted, entry.start) if ref is not None]
    # Who only looks must change nothing.
    return {folder for ref in refs for folder in folders_of([ref, _whole(store, ref, store.read)])}


def _files(store: Store, series: str = "") -> defaultdict[str, list[Entry]]:
    """Files of the runs of a series, or of each, the oldest first."""
    found = defaultdict(list)
    for file in store.files.whole(f"{SERIES}/{series}/runs" if series else SERIES):
        if match := _ENTRY.fullmatch(file.path):
            found[match["series"]].append(file)
    return found


def _last(store: Store, files: Sequence[Entry]) -> SeriesRun | None:
    """Of the files of a series, read the last one that is an entry."""
    return next(filter(None, (_read(store, file) for file in reversed(files))), None)


def _read(store: Store, file: Entry) -> SeriesRun | None:
    try:
        return SeriesRun.model_validate_json(store.files.read(file.path) or b"")
    except ValidationError:
        return None


def _whole(store: Store, ref: ObjectRef, read: Callable[[ObjectRef], bytes] | None = None) -> Fitted | None:
    """Read what a run has fitted, if all that another run needs of it is there."""
    try:
        fitted = Fitted.model_validate_json((read or store.get)(ref))
    except (CorruptObjectError, ValidationError):
        return None
    needed = objects_of([fitted.order, fitted.model, fitted.clustering.centres])
    return fitted if store.are_there(needed) else None


def _asked(plan: Plan, settings: Settings) -> str:
    parts = [
        [part.shard_name, part.fingerprint, part.start, part.stop, *([] if part.rows is None else [part.rows.checksum])]
        for part in plan.partitions
    ]
    made_of = [plan.vocabulary.key, plan.columns, parts, settings.model_dump(include=_OF_NUMBERS)]
    return hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()[:32]
