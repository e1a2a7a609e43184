"""A run from its settings to its record, whatever its stages are."""

from collections.abc import Callable
from typing import TypeVar

from prefect.client.schemas.objects import State

from flows.credentials import lent
from flows.endings import told
from flows.stages import Stages, stages
from tasks.core.costs import Costs
from tasks.core.housekeeping import keep_only
from tasks.core.record import Record, write_record
from tasks.core.settings import RunSettings
from tasks.core.store import output_of, store_of

S = TypeVar("S", bound=RunSettings)
F = TypeVar("F")
R = TypeVar("R", bound=Record)


def carry_out(
    settings: S, all_stages: Callable[[Stages, S], F], make_record: Callable[[S, F, Costs], R]
) -> R | State[R]:
    """Run all stages until their results are whole, and leave the record of what they found."""
    with lent(settings.credentials):
        store, output = store_of(settings), output_of(settings)
        for place in (store, output):
            place.check_writable()
        with stages(settings) as run:
            found = run.until_whole(lambda: all_stages(run, settings))
            run.mark.end(found)
        keep_only(settings, run.mark.name)
        record = make_record(settings, found, run.costs)
        write_record(output, record)
    return told(record)
