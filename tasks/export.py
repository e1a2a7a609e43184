"""Stages: write the results, and deliver them."""

from collections.abc import Sequence
from typing import TypeVar

from tasks.core.base.settings import RunSettings, Settings
from tasks.core.references.cells import Cells
from tasks.core.references.model import Embedding, Labels
from tasks.core.results import delivery, results
from tasks.core.results.drafts import Draft
from tasks.core.results.findings import CLUSTER, Fit, LabelledCells
from tasks.core.results.record import Record
from tasks.core.storage.store import output_of, store_of
from tasks.stage import stage

R = TypeVar("R", bound=Record)


@stage(name="export", task_run_name="write results")
def export(fit: Fit, draft: Draft, settings: Settings) -> None:
    """Write the tables of cells, variance, components and clusters, and pictures of them."""
    with draft.opened() as folder:
        results.export(store_of(settings), folder, fit, settings)


@stage(name="export")
def export_cells(
    cells: Sequence[Cells], embeddings: Sequence[Embedding], labels: Labels, draft: Draft, settings: RunSettings
) -> None:
    """Write the table of cells."""
    made_of = LabelledCells(cells, embeddings, {CLUSTER: labels})
    with draft.opened() as folder:
        results.export_cells(store_of(settings), folder, made_of, settings)


@stage(name="delivery", task_run_name="deliver results")
def deliver(draft: Draft, record: R, settings: RunSettings) -> R:
    """Put all that was written, and the record, in the place of what an earlier run has left in the output."""
    return delivery.deliver(draft, output_of(settings), record)
