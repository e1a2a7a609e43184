"""A run from its settings to its record, whatever its stages are."""

from collections.abc import Callable, Mapping
from typing import TypeVar

from prefect.client.schemas.objects import State

from flows.artifacts import show_results
from flows.credentials import hold
from flows.endings import told
from flows.progress import told_to_prefect
from flows.stages import Stages, stages
from tasks.core.base.settings import RunSettings
from tasks.core.results.costs import Costs
from tasks.core.results.housekeeping import keep_only
from tasks.core.results.record import Record, write_record
from tasks.core.storage.store import output_of, store_of

S = TypeVar("S", bound=RunSettings)
F = TypeVar("F")
R = TypeVar("R", bound=Record)


def carry_out(
    settings: S,
    all_stages: Callable[[Stages, S], F],
    make_record: Callable[[S, F, Costs], R],
    shares: Mapping[str, float],
) -> R | State[R]:
    """Run all stages until their results are whole, and leave and show the record of what they found.

    Args:
        settings: of the run.
        all_stages: gives what the stages return.
        make_record: makes the record of that.
        shares: of each stage in the work of a large run, for a bar that moves evenly.
    """
    hold(settings.credentials)
    store, output = store_of(settings), output_of(settings)
    store.claim()
    output.check_writable()
    with told_to_prefect(shares), stages(settings) as run:
        found = run.until_whole(lambda: all_stages(run, settings))
        run.mark.end(found)
    keep_only(settings, run.mark.name)
    record = make_record(settings, found, run.costs)
    write_record(output, record)
    show_results(record, output)
    return told(record)
