"""Stage: write the results."""

from tasks.core.base.settings import RunSettings, Settings
from tasks.core.references.cells import Cells
from tasks.core.references.model import Embedding, Labels, Output
from tasks.core.results import results
from tasks.core.results.findings import CLUSTER, Fit, LabelledCells
from tasks.core.storage.store import output_of, store_of
from tasks.stage import stage


@stage(name="export", task_run_name="write results")
def export(fit: Fit, settings: Settings) -> tuple[Output, ...]:
    """Write the tables of cells, variance, components and clusters, and pictures of them, to the output."""
    return results.export(store_of(settings), output_of(settings), fit, settings)


@stage(name="export")
def export_cells(
    cells: list[Cells], embeddings: list[Embedding], labels: Labels, settings: RunSettings
) -> tuple[Output, ...]:
    """Write the table of cells to the output."""
    made_of = LabelledCells(cells, embeddings, {CLUSTER: labels})
    return results.export_cells(store_of(settings), output_of(settings), made_of, settings)
