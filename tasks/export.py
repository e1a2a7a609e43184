"""Stages: write the results, and deliver them."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from prefect import get_run_logger

from tasks.core.base.environment import environment
from tasks.core.base.settings import RunSettings, Settings
from tasks.core.references.cells import Cells
from tasks.core.references.model import Embedding, Exported, Labels
from tasks.core.results import delivery, results
from tasks.core.results.drafts import Draft
from tasks.core.results.findings import CLUSTER, Fit, LabelledCells
from tasks.core.results.record import Record
from tasks.core.storage.store import Outcome, output_of, store_of
from tasks.stage import stage

R = TypeVar("R", bound=Record)


@stage(name="export", task_run_name="write results")
def export(fit: Fit, content: str | None, draft: Draft, settings: Settings) -> Outcome[Exported]:
    """Write the tables of cells, variance, components and clusters.

    Where the output has them already, of this content, they are left as they are.
    """
    return _unless_there(content, settings) or _write(
        draft, lambda folder: results.export(store_of(settings), folder, fit, settings)
    )


@stage(name="export")
def export_cells(
    cells: Sequence[Cells],
    embeddings: Sequence[Embedding],
    labels: Labels,
    content: str | None,
    draft: Draft,
    settings: RunSettings,
) -> Outcome[Exported]:
    """Write the table of cells; where the output has it already, of this content, it is left as it is."""
    made_of = LabelledCells(cells, embeddings, {CLUSTER: labels})
    return _unless_there(content, settings) or _write(
        draft, lambda folder: results.export_cells(store_of(settings), folder, made_of, settings)
    )


@stage(name="delivery", task_run_name="deliver results")
def deliver(draft: Draft, record: R, settings: RunSettings) -> R:
    """Put all that was written, and the record, in the place of what an earlier run has left in the output."""
    return delivery.deliver(draft, output_of(settings), record)


def _unless_there(content: str | None, settings: RunSettings) -> Outcome[Exported] | None:
    output = output_of(settings)
    there = delivery.find_delivered(output, content)
    if not there:
        return None
    get_run_logger().info("%s has the results of a run that found the same: they are left as they are", output.url)
    return Outcome(Exported(standing=there), cached=True, place="output")


def _write(draft: Draft, write: Callable[[Path], None]) -> Outcome[Exported]:
    with draft.opened() as folder:
        write(folder)
    return Outcome(Exported(standing=None), cached=False, environments=frozenset({environment()}))
