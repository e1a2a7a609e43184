"""A run from its settings to its record, whatever its stages are."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from prefect.client.schemas.objects import State

from flows.artifacts import show_results
from flows.credentials import hold
from flows.endings import told
from flows.progress import told_to_prefect
from flows.stages import Stages, stages
from tasks.core.base.errors import SettingsError
from tasks.core.base.settings import RunSettings, is_on_s3
from tasks.core.results.delivery import check_free
from tasks.core.results.drafts import Draft, drafting
from tasks.core.results.housekeeping import keep_only
from tasks.core.results.record import Record
from tasks.core.results.results import may_write
from tasks.core.storage.files import root_of
from tasks.core.storage.store import output_of, store_of

S = TypeVar("S", bound=RunSettings)
R = TypeVar("R", bound=Record)
# Where a worker of Prefect's starts what it first gets by a pull step.
_PASSING_FOLDER = re.compile("tmp.*prefect")


def carry_out(
    settings: S,
    all_stages: Callable[[Stages, S, Draft], tuple[object, R]],
    shares: Mapping[str, float],
) -> R | State[R]:
    """Run all stages until their results are whole and delivered, and show the record of what they found.

    Args:
        settings: of the run.
        all_stages: gives what the stages return, and the record of that.
        shares: of each stage in the work of a large run, for a bar that moves evenly.
    """
    _check_lasting(settings)
    hold(settings.credentials)
    store, output = store_of(settings), output_of(settings)
    output.files.check_writable()
    check_free(output, may_write(settings))
    store.claim()
    with drafting(output) as draft, told_to_prefect(shares), stages(settings) as run:
        found, record = run.until_whole(lambda: all_stages(run, settings, draft.emptied()))
        run.mark.end(found)
    keep_only(settings, run.mark.name)
    show_results(record, output)
    return told(record)


def _check_lasting(settings: RunSettings) -> None:
    here = Path.cwd()
    if not any(map(_PASSING_FOLDER.fullmatch, here.parts)):
        return
    for name, place in (("store", settings.store), ("output", settings.output)):
        if not is_on_s3(place) and Path(root_of(place)).is_relative_to(here):
            raise SettingsError(
                f"{name} '{place}' is relative to {here}, which Prefect's worker removes when the run ends: "
                "give an absolute path, or s3://bucket/prefix"
            )
