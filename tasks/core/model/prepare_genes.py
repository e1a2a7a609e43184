"""A partition as the components see it: the chosen genes, scaled where that is asked for."""

from tasks.core.base.recipes import Recipe
from tasks.core.dataset.partition_steps import with_moments
from tasks.core.references.cells import GeneOrder, Normalized, Preparation
from tasks.core.references.model import ChosenGenes
from tasks.core.storage.store import Outcome, StageKey, Store

VERSION = 4


def prepare_genes(
    store: Store, normalized: Normalized, order: GeneOrder, chosen: ChosenGenes, recipe: Recipe
) -> Outcome[Normalized]:
    """Keep the values of the chosen genes, scaled as by scanpy's `pp.scale`, as they are read; take their moments."""
    inputs = {"cells": normalized.key, "genes": chosen.key, "scale_max": recipe.scale_max}
    key = StageKey(stage="preparation", version=VERSION, inputs=inputs)
    preparation = Preparation(order=order, chosen=chosen.order, statistics=chosen.table, scale_max=recipe.scale_max)
    genes = chosen.order.genes
    return store.answer(key, Normalized, lambda: with_moments(store, key, normalized, genes, preparation))
