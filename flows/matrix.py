"""What every flow begins with: from the plan to the normalized cells."""

from flows.stages import Stages
from tasks.core.base.settings import RunSettings
from tasks.core.dataset.landing import check_skipped
from tasks.core.references.cells import GeneOrder, Plan
from tasks.core.results.record import Matrix
from tasks.matrix import build_counts, order_genes
from tasks.normalization import normalize
from tasks.streaming import stream_cells


def normalized_cells(run: Stages, plan: Plan, settings: RunSettings, order: GeneOrder | None = None) -> Matrix:
    """Stream the cells planned for, build sparse counts and normalize them, the genes in the order given if any."""
    run.costs.cells = plan.cells
    genes = plan.vocabulary

    landed = run.each(stream_cells, plan.partitions, genes, settings)
    skipped = check_skipped(plan, landed, settings)
    cells = [part for part in landed if part.cells]
    counts = run.each(build_counts, cells, genes, settings)
    order = order or run.one(order_genes, counts[0], genes, settings)
    normalized = run.each(normalize, counts, order, settings)
    return Matrix(plan, cells, counts, order, normalized, skipped)
