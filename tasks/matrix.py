"""Stages: order the genes, and build a partition's sparse counts matrix, cells by Ensembl gene id."""

from collections.abc import Sequence

from tasks.core.base.settings import RunSettings
from tasks.core.dataset import partition_steps
from tasks.core.references.cells import Cells, Counted, GeneOrder, Vocabulary
from tasks.core.storage.store import Outcome, store_of
from tasks.stage import stage


@stage(name="gene order", task_run_name="order genes")
def order_genes(cells: Sequence[Cells], vocabulary: Vocabulary, settings: RunSettings) -> Outcome[GeneOrder]:
    """Rank the genes by popularity in the first partition that has cells: of near genes, counts take little room."""
    first = next((part for part in cells if not part.is_empty), None)
    return partition_steps.order_genes(store_of(settings), first, vocabulary)


@stage(name="matrix", task_run_name="build counts of {cells.origin}")
def build_counts(cells: Cells, order: GeneOrder, vocabulary: Vocabulary, settings: RunSettings) -> Outcome[Counted]:
    """Build the counts of one partition, genes in the order given."""
    counts = partition_steps.build_counts(store_of(settings), cells, order, vocabulary)
    return Outcome(Counted(cells=cells, counts=counts.result), counts.cached, counts.environments)
