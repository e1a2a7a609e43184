"""Stages: find what a run of a series begins from, and tell what changed since the run before."""

from prefect import get_run_logger

from tasks.core.base.settings import Settings
from tasks.core.model import series as core
from tasks.core.model.series import Continuation, SeriesRun
from tasks.core.references.cells import Plan
from tasks.core.references.model import Exported, Fitted
from tasks.core.results.drafts import Draft
from tasks.core.results.history import write_history
from tasks.core.storage.store import output_of, store_of
from tasks.stage import stage


@stage(name="series")
def continue_series(plan: Plan, settings: Settings) -> Continuation:
    """Find the run before in the series, and what to begin from."""
    place = core.continue_series(plan, settings)
    get_run_logger().info(place.note)
    return place


@stage(name="drift")
def conclude(run: str, plan: Plan, learnt: Fitted, place: Continuation, settings: Settings) -> SeriesRun:
    """Measure what changed since the run before, and leave an entry for the next one."""
    entry = core.conclude(settings, run, plan, learnt, place)
    for sentence in entry.drift.exceeded if entry.drift else ():
        get_run_logger().warning(sentence)
    return entry


@stage(name="export", task_run_name="write the history")
def export_history(entry: SeriesRun, draft: Draft, settings: Settings) -> Exported:
    """Write the table of the runs of a series, and a picture of it."""
    store = store_of(settings)
    made = draft.write(output_of(settings), lambda folder: write_history(store, folder, entry.series))
    return Exported(outputs=made)
