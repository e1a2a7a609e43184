"""Stage: write the results."""

from tasks.core import results
from tasks.core.references import Cells, Clustering, Embedding, Model, Output, Vocabulary
from tasks.core.settings import Settings
from tasks.core.store import output_of, store_of
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
    """Write the tables of cells, variance and components, and pictures of them, to the output."""
    made_of = results.Results(vocabulary, cells, embeddings, model, clustering)
    return results.export(store_of(settings), output_of(settings), made_of)
