"""Stages: choose the genes that the components are to be of, and prepare their values."""

from collections.abc import Sequence

from tasks.core.base.settings import Settings
from tasks.core.model import choose_genes as choice
from tasks.core.model import prepare_genes as preparation
from tasks.core.references.cells import Cells, Counts, GeneOrder, Normalized
from tasks.core.references.model import ChosenGenes
from tasks.core.storage.store import Outcome, store_of
from tasks.stage import stage


@stage(name="genes", task_run_name="choose genes")
def choose_genes(
    cells: Sequence[Cells],
    counts: Sequence[Counts],
    normalized: Sequence[Normalized],
    order: GeneOrder,
    settings: Settings,
) -> Outcome[ChosenGenes]:
    """Choose the genes that enough cells express, and of them the most variable, as the recipe says."""
    partitions = choice.Partitions(cells, counts, normalized, order)
    return choice.choose_genes(store_of(settings), partitions, settings)


@stage(name="preparation", task_run_name="prepare {partition.origin}")
def prepare_genes(
    partition: Normalized, order: GeneOrder, chosen: ChosenGenes, settings: Settings
) -> Outcome[Normalized]:
    """Keep the chosen genes of one partition, scaled where the recipe says so."""
    return preparation.prepare_genes(store_of(settings), partition, order, chosen, settings.recipe_in_full)
