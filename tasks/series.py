"""Stages: find what a run of a series begins from, and tell what changed since the run before."""

from prefect import get_run_logger

from tasks.core.base.settings import Settings
from tasks.core.model import series as core
from tasks.core.model.series import Continuation, SeriesRun
from tasks.core.references.cells import Plan
from tasks.core.references.model import Fitted
from tasks.core.results.drafts import Draft
from tasks.core.results.history import write_history
from tasks.core.storage.store import store_of
from tasks.stage import stage


@stage(name="series")
def continue_series(plan: Plan, settings: Settings) -> Continuation:
    """Find the run before in the series, and what to begin from."""
    place = core.continue_series(plan, settings)
    get_run_logger().info(place.note)
    return place


@stage(name="drift")
def conclude(run: str, plan: Plan, learnt: Fitted, place: Continuation, draft: Draft, settings: Settings) -> SeriesRun:
    """Measure what changed since the run before, leave an entry for the next one and write the history."""
    entry = core.conclude(settings, run, plan, learnt, place)
    with draft.opened() as folder:
        write_history(store_of(settings), folder, entry.series)
    for sentence in entry.drift.exceeded if entry.drift else ():
        get_run_logger().warning(sentence)
    return entry
