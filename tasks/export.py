"""Stages: write the results, and deliver them."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from prefect import get_run_logger

from tasks.core.base.environment import environment
from tasks.core.base.settings import RunSettings, Settings
from tasks.core.references.model import Exported
from tasks.core.results import delivery, results
from tasks.core.results.drafts import Draft
from tasks.core.results.embeddings import write_csv, write_part
from tasks.core.results.findings import Fit, LabelledCells
from tasks.core.results.record import Record
from tasks.core.results.tables import cell_tables
from tasks.core.storage.store import Outcome, output_of, store_of
from tasks.stage import stage

R = TypeVar("R", bound=Record)


@stage(name="export", task_run_name="look for the same results")
def find_results(content: str | None, settings: RunSettings) -> Outcome[Exported]:
    """Find the results of this content that an earlier run has left in the output, whole: they stay as they are."""
    output = output_of(settings)
    there = delivery.find_delivered(output, content)
    if there:
        get_run_logger().info("%s has the results of a run that found the same: they are left as they are", output.url)
    return Outcome(Exported(outputs=there or None), cached=bool(there), place="output")


@stage(name="export", takes_a_slot=True, task_run_name="write part {number} of the cells")
def export_part(
    cells: LabelledCells, number: int, has_csv: bool, draft: Draft, settings: RunSettings
) -> Outcome[Exported]:
    """Write a part of the table of cells as Parquet and, where there is no one CSV file of all, as CSV."""

    def write(folder: Path) -> None:
        write_part(cell_tables(store_of(settings), cells), folder, number, has_csv=has_csv)

    return _written(draft, f"part-{number}", write, settings)


@stage(name="export", takes_a_slot=True, task_run_name="write embeddings.csv")
def export_csv(cells: LabelledCells, draft: Draft, settings: RunSettings) -> Outcome[Exported]:
    """Write the table of cells as one CSV file."""
    return _written(draft, "csv", lambda folder: write_csv(cell_tables(store_of(settings), cells), folder), settings)


@stage(name="export", takes_a_slot=True, task_run_name="write small tables")
def export(fit: Fit, draft: Draft, settings: Settings) -> Outcome[Exported]:
    """Write the tables of variance, components, clusters and genes, and AnnData where asked for."""
    return _written(draft, "tables", lambda folder: results.export(store_of(settings), folder, fit, settings), settings)


@stage(name="delivery", task_run_name="deliver results")
def deliver(exported: Sequence[Exported], draft: Draft, record: R, settings: RunSettings) -> R:
    """Put all that was written, and the record, in the place of what an earlier run has left in the output."""
    made = (one for part in exported for one in part.outputs or ())
    return delivery.deliver(draft, output_of(settings), record, made)


def _written(draft: Draft, step: str, write: Callable[[Path], None], settings: RunSettings) -> Outcome[Exported]:
    """Write files of the draft, unless a run that did not come to its end has left them there."""
    output = output_of(settings)
    if there := draft.find(output, step):
        return Outcome(Exported(outputs=there), cached=True, place="output")
    made = draft.write(output, write, step)
    return Outcome(Exported(outputs=made), cached=False, environments=frozenset({environment()}))
