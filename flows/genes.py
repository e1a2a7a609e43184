"""Which genes, and in what form, the components are fitted to."""

from flows.stages import Stages
from tasks.core.base.settings import Settings
from tasks.core.results.findings import Matrix, Prepared
from tasks.genes import choose_genes, prepare_genes


def prepared_cells(run: Stages, matrix: Matrix, settings: Settings) -> Prepared:
    """Choose genes and prepare their values, where the recipe asks for it."""
    if not settings.recipe_in_full.prepares_genes:
        return Prepared(matrix.normalized, matrix.order, None)
    chosen = run.one(choose_genes, matrix.cells, matrix.counts, matrix.normalized, matrix.order, settings)
    cells = run.each(prepare_genes, matrix.normalized, matrix.order, chosen, settings)
    return Prepared(cells, chosen.order, chosen)
