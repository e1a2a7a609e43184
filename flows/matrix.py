"""What every flow begins with: from the plan to the normalized cells."""

from flows.stages import Stages
from tasks.core.base.settings import RunSettings
from tasks.core.dataset.landing import check_skipped
from tasks.core.dataset.quality_control import passing
from tasks.core.references.cells import Checked, Counted, GeneOrder, Plan
from tasks.core.results.findings import Matrix
from tasks.matrix import build_counts, order_genes
from tasks.normalization import normalize
from tasks.quality import check_quality
from tasks.streaming import stream_cells


def normalized_cells(run: Stages, plan: Plan, settings: RunSettings, order: GeneOrder | None = None) -> Matrix:
    """Stream the cells planned for, build sparse counts and normalize them, the genes in the order given if any."""
    run.costs.cells = plan.cells
    genes = plan.vocabulary

    streamed = run.each(stream_cells, plan.partitions, genes, settings)
    skipped = check_skipped(plan, streamed, settings)
    cells = [part for part in streamed if part.cells]
    built = run.each(build_counts, cells, genes, settings)
    counted = [Counted(cells=of, counts=counts) for of, counts in zip(cells, built, strict=True)]
    checked = _of_good_quality(run, counted, plan, settings)
    left = passing(checked, settings.recipe_in_full) if checked else counted
    counts = [part.counts for part in left]
    order = order or run.one(order_genes, counts[0], genes, settings)
    normalized = run.each(normalize, counts, order, settings)
    return Matrix(plan, counted, checked, [part.cells for part in left], counts, order, normalized, skipped)


def _of_good_quality(run: Stages, counted: list[Counted], plan: Plan, settings: RunSettings) -> list[Checked]:
    if not settings.recipe_in_full.checks_cells:
        return []
    return run.each(check_quality, counted, plan.vocabulary, settings)
