"""The genes that the components are to be of: those seen often enough, and of them the most variable."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from tasks.core.base.errors import SettingsError
from tasks.core.base.settings import Settings
from tasks.core.dataset.columns import Column, read_batches
from tasks.core.dataset.stored_blocks import by_block, gene_ranks, stored_counts, stored_moments, stored_values
from tasks.core.numerics.block import Block, Float64Array, IntArray, NumberArray, encode_matrix, encode_table
from tasks.core.numerics.fold import Blocks
from tasks.core.numerics.group_moments import GroupMoments, counts_per_million
from tasks.core.numerics.regular_variances import RegularVariances
from tasks.core.numerics.scaling import DEVIATION, MEAN, Scaling
from tasks.core.numerics.variable_genes import VariableGenes, choose_seurat, choose_seurat_by_batch
from tasks.core.references.cells import Cells, Counts, GeneOrder, InBlocks, Normalized
from tasks.core.references.model import ChosenGenes
from tasks.core.storage.store import Outcome, StageKey, Store

VERSION = 6
# Column of the table of genes, as scanpy names it.
CHOSEN = "highly_variable"
_ALL = ""


@dataclass(frozen=True)
class Partitions:
    """The cells in each of the forms that genes are chosen by, partition by partition."""

    cells: Sequence[Cells]
    counts: Sequence[Counts]
    normalized: Sequence[Normalized]
    order: GeneOrder


def choose_genes(store: Store, of: Partitions, settings: Settings) -> Outcome[ChosenGenes]:
    """Choose genes as the recipe says.

    Raises:
        SettingsError: fewer genes are left than are to be chosen, or than there are to be components; or the batches
            are none.
    """
    recipe = settings.recipe_in_full
    asked = recipe.model_dump(include={"genes", "min_cells", "batch"}) | {"n_top_genes": settings.n_top_genes}
    inputs = asked | {"cells": [part.key for part in of.normalized], "order": of.order.key}
    key = StageKey(stage="genes", version=VERSION, inputs=inputs)

    def make() -> ChosenGenes:
        folds = _Folds(store, of, read_batches(store, of.cells, recipe, settings.threads), settings.threads)
        seen = folds.per_million()
        left = np.flatnonzero(seen.whole.expressing >= recipe.min_cells)
        if not len(left):
            raise SettingsError(f"--min_cells {recipe.min_cells:,}: no gene is expressed by so many cells")
        found = _CHOICES[recipe.genes](folds, seen, left, settings.n_top_genes)
        chosen = left[found.chosen]
        ranks = _ranks_among(chosen, gene_ranks(store, of.order))
        statistics = {name: _spread(values, left, of.order.genes) for name, values in found.statistics.items()}
        known = {"n_cells": seen.whole.expressing, CHOSEN: ranks >= 0} | folds.scaling()
        return ChosenGenes(
            key=key.digest,
            order=GeneOrder(
                key=key.digest,
                genes=len(chosen),
                ranks=store.put(f"{key.folder}/ranks.arrow", encode_matrix(ranks[:, None]), len(ranks)),
            ),
            table=store.put(f"{key.folder}/genes.arrow", encode_table(pa.table(known | statistics)), len(ranks)),
        )

    return store.answer(key, ChosenGenes, make)


@dataclass(frozen=True)
class _Folds:
    """Passes over the counts and normalized values of all cells, whose sums are by batch."""

    store: Store
    of: Partitions
    batches: Column | None
    workers: int

    @property
    def names(self) -> tuple[str, ...]:
        return self.batches.values if self.batches else (_ALL,)

    def per_million(self) -> GroupMoments:
        """Moments of the counts per million, in the vocabulary's order."""
        names, genes = self.names, self.of.order.genes

        def moments(block: Block, codes: IntArray) -> GroupMoments:
            return GroupMoments.of(counts_per_million(block), codes, names, genes)

        return self._sum(stored_values(self.store, self.of.normalized, self.workers), self.of.normalized, moments)

    def scaling(self) -> dict[str, Float64Array]:
        """Mean and standard deviation of each gene's normalized values, in the vocabulary's order."""
        ranks = gene_ranks(self.store, self.of.order)
        found = Scaling.of(stored_moments(self.store, self.of.normalized, self.workers))
        return {MEAN: found.means[ranks], DEVIATION: found.deviations[ranks]}

    def counts(self) -> GroupMoments:
        """Moments of the counts."""
        names, genes = self.names, self.of.order.genes
        return self._of_counts(lambda block, codes: GroupMoments.of(block, codes, names, genes))

    def counts_above(self, bounds: Mapping[str, Float64Array]) -> GroupMoments:
        """Moments of the counts above a bound for each batch and gene."""
        names, of_column = self.names, np.argsort(gene_ranks(self.store, self.of.order))
        by_column = {name: bound[of_column] for name, bound in bounds.items()}
        return self._of_counts(lambda block, codes: GroupMoments.above(block, codes, names, by_column))

    def _of_counts(self, moments: Callable[[Block, IntArray], GroupMoments]) -> GroupMoments:
        return self._sum(stored_counts(self.store, self.of.counts, self.workers), self.of.counts, moments)

    def _sum(
        self, blocks: Blocks[Block], parts: Sequence[InBlocks], moments: Callable[[Block, IntArray], GroupMoments]
    ) -> GroupMoments:
        """Sum up moments, and give them in the vocabulary's order."""
        if self.batches is None:
            found = blocks.sum(lambda block: moments(block, np.zeros(block.cells, np.int64)))
        else:
            found = blocks.sum(moments, by_block(parts, self.batches.codes))
        return found.renumbered(gene_ranks(self.store, self.of.order))


def _all_of_them(_folds: _Folds, _seen: GroupMoments, left: IntArray, _number: int) -> VariableGenes:
    return VariableGenes(np.ones(len(left), bool), {})


def _by_dispersion(_folds: _Folds, seen: GroupMoments, left: IntArray, number: int) -> VariableGenes:
    of_left = seen.renumbered(left)
    if len(of_left.batches) == 1:
        return choose_seurat(of_left.whole, number)
    return choose_seurat_by_batch(of_left, number)


def _by_regular_variance(folds: _Folds, _seen: GroupMoments, left: IntArray, number: int) -> VariableGenes:
    trends = RegularVariances.fit(folds.counts().renumbered(left))
    bounds = {name: _spread(bound, left, folds.of.order.genes) for name, bound in trends.bounds.items()}
    return trends.choose(folds.counts_above(bounds).renumbered(left), number)


_CHOICES = {"all": _all_of_them, "seurat": _by_dispersion, "seurat_v3": _by_regular_variance}


def _ranks_among(chosen: IntArray, ranks: IntArray) -> IntArray:
    """(genes,) columns of the chosen genes, in the order of the ranks, and -1 of all others."""
    columns = np.full(len(ranks), -1, np.int32)
    columns[chosen[np.argsort(ranks[chosen])]] = np.arange(len(chosen), dtype=np.int32)
    return columns


def _spread(values: NumberArray, at: IntArray, genes: int) -> Float64Array:
    """(genes,) the values at their places, NaN at all others."""
    spread = np.full(genes, np.nan)
    spread[at] = values
    return spread
