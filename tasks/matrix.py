"""Stage: build a partition's sparse counts matrix, cells by Ensembl gene id."""

from tasks.core.base.settings import RunSettings
from tasks.core.dataset import partition_steps
from tasks.core.references.cells import Cells, Counts, GeneOrder, Vocabulary
from tasks.core.storage.store import Outcome, store_of
from tasks.stage import Answer, as_state, of_each, stage


@stage(name="matrix", task_run_name="build counts of {batch.origin}")
@of_each
def build_counts(cells: Cells, vocabulary: Vocabulary, settings: RunSettings) -> Outcome[Counts]:
    """Build the counts of one partition, in the vocabulary's order."""
    return partition_steps.build_counts(store_of(settings), cells, vocabulary)


@stage(name="gene order", task_run_name="order genes")
def order_genes(counts: Counts, vocabulary: Vocabulary, settings: RunSettings) -> Answer[GeneOrder]:
    """Rank the genes by popularity in the first partition, for speed in the passes to come."""
    return as_state(partition_steps.order_genes(store_of(settings), counts, vocabulary.genes))
