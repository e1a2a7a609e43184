"""A partition as the components see it: the chosen genes, scaled where that is asked for."""

from collections.abc import Callable

import numpy as np

from tasks.core.base.recipes import Recipe
from tasks.core.dataset.partition_steps import gene_ranks, put_block, read_blocks
from tasks.core.model.choose_genes import DEVIATION, MEAN
from tasks.core.numerics.block import Block, IntArray, decode_table
from tasks.core.numerics.moments import Moments
from tasks.core.numerics.scaling import Scaling, keep_genes
from tasks.core.references.cells import GeneOrder, Normalized
from tasks.core.references.model import ChosenGenes
from tasks.core.storage.store import ObjectRef, Outcome, StageKey, Store

VERSION = 3


def prepare_genes(
    store: Store, normalized: Normalized, order: GeneOrder, chosen: ChosenGenes, recipe: Recipe
) -> Outcome[Normalized]:
    """Keep the values of the chosen genes, scale them as scanpy's `pp.scale` does, and take their moments."""
    inputs = {"cells": normalized.key, "genes": chosen.key, "scale_max": recipe.scale_max}
    key = StageKey(stage="preparation", version=VERSION, inputs=inputs)

    def make() -> Normalized:
        columns = _columns(store, order, chosen)
        scale = _scale(store, chosen, recipe)
        refs: list[ObjectRef] = []
        genes = chosen.order.genes
        moments = Moments(0, np.zeros(genes), np.zeros(genes))
        nonzeros = 0
        for block in read_blocks(store, normalized.blocks):
            prepared = scale(keep_genes(block, columns))
            refs.append(put_block(store, key, len(refs), prepared))
            moments += Moments.of(prepared, genes)
            nonzeros += len(prepared.values)
        return Normalized(
            key=key.digest,
            origin=normalized.origin,
            cells=normalized.cells,
            nonzeros=nonzeros,
            moments=store.put(f"{key.folder}/moments.arrow", moments.to_arrow(), genes),
            blocks=tuple(refs),
        )

    return store.answer(key, Normalized, make)


def _columns(store: Store, order: GeneOrder, chosen: ChosenGenes) -> IntArray:
    """(columns,) for each column of the normalized matrix, that of the prepared one, or -1."""
    columns = np.full(order.genes, -1, np.int32)
    columns[gene_ranks(store, order)] = gene_ranks(store, chosen.order)
    return columns


def _scale(store: Store, chosen: ChosenGenes, recipe: Recipe) -> Callable[[Block], Block]:
    if not recipe.scale_max:
        return lambda block: block
    table, ranks = decode_table(store.get(chosen.table)), gene_ranks(store, chosen.order)
    by_column = np.flatnonzero(ranks >= 0)[np.argsort(ranks[ranks >= 0])]
    means, deviations = (table.column(name).to_numpy()[by_column] for name in (MEAN, DEVIATION))
    return Scaling(means, deviations, recipe.scale_max).apply
