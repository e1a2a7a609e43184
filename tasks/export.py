"""Stage: write the results."""

from tasks.core.base.settings import RunSettings, Settings
from tasks.core.references.cells import Cells, Vocabulary
from tasks.core.references.model import Clustering, Embedding, Labels, Model, Output
from tasks.core.results import results
from tasks.core.storage.store import output_of, store_of
from tasks.stage import stage


@stage(name="export", task_run_name="write results")
def export(
    vocabulary: Vocabulary,
    cells: list[Cells],
    embeddings: list[Embedding],
    model: Model,
    clustering: Clustering,
    settings: Settings,
) -> tuple[Output, ...]:
    """Write the tables of cells, variance, components and clusters, and pictures of them, to the output."""
    made_of = results.Results(cells, embeddings, clustering, vocabulary, model)
    return results.export(store_of(settings), output_of(settings), made_of)


@stage(name="export")
def export_cells(
    cells: list[Cells], embeddings: list[Embedding], labels: Labels, settings: RunSettings
) -> tuple[Output, ...]:
    """Write the tables of cells to the output."""
    made_of = results.LabelledCells(cells, embeddings, labels)
    return results.export_cells(store_of(settings), output_of(settings), made_of)
