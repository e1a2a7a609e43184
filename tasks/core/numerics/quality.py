"""Quality of cells, as scanpy's `calculate_qc_metrics` measures it."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Self

import numpy as np
import numpy.typing as npt

from tasks.core.base.recipes import Recipe
from tasks.core.numerics.block import Block, Float64Array, IntArray, NumberArray
from tasks.core.numerics.fold import Blocks
from tasks.core.numerics.normalize import row_sums

VERSION = 1
GENES_COLUMN, COUNTS_COLUMN, MITO_COLUMN = "n_genes_by_counts", "total_counts", "pct_counts_mt"


@dataclass(frozen=True)
class CellQuality:
    """What tells good cells from bad ones, for `n` cells.

    Attributes:
        genes: (n,) genes expressed.
        counts: (n,) counts in all.
        mito: (n,) share of the counts that is of mitochondrial genes, in percent; 0 of a cell without counts.
    """

    genes: IntArray
    counts: IntArray
    mito: Float64Array

    @classmethod
    def of(cls, block: Block, is_mito: npt.NDArray[np.bool_]) -> Self:
        """Measure a block of counts, given which genes are mitochondrial."""
        counts = row_sums(block)
        of_mito = row_sums(Block(block.offsets, block.genes, block.values * is_mito[block.genes]))
        share = np.divide(100.0 * of_mito, counts, out=np.zeros(block.cells), where=counts > 0)
        return cls(np.diff(block.offsets), counts, share)

    @classmethod
    def join(cls, parts: Sequence[Self]) -> Self:
        """Put cells below each other."""
        columns = ([getattr(part, name) for part in parts] for name in ("genes", "counts", "mito"))
        return cls(*map(np.concatenate, columns))

    def failing(self, recipe: Recipe) -> dict[str, npt.NDArray[np.bool_]]:
        """(n,) which cells are beyond each bound, by the name of its setting."""
        return {
            "min_genes": self.genes < recipe.min_genes,
            "min_counts": self.counts < recipe.min_counts,
            "max_mito": self.mito > recipe.max_mito,
        }


def is_mitochondrial(symbols: Sequence[str | None]) -> npt.NDArray[np.bool_]:
    """(genes,) which symbols begin with `MT-`, in any case: the 37 genes of the mitochondrial genome."""
    return np.array([bool(symbol) and str(symbol).upper().startswith("MT-") for symbol in symbols], bool)


def histograms(values: Blocks[NumberArray], bins: int) -> list[tuple[IntArray, Float64Array]]:
    """Count the values of each column of (rows, columns), in equally wide bins from the least to the most.

    Two passes give of each column what `numpy.histogram` gives of all its values at once: the counts, and the bins'
    edges.
    """
    extents = values.map(lambda part: (part.min(axis=0, initial=np.inf), part.max(axis=0, initial=-np.inf)))
    low, high = reduce(lambda one, other: (np.minimum(one[0], other[0]), np.maximum(one[1], other[1])), extents)
    ranges = list(zip(low.tolist(), high.tolist(), strict=True))

    def counts(part: NumberArray) -> IntArray:
        columns = zip(part.T, ranges, strict=True)
        return np.stack([np.histogram(column, bins, extent)[0] for column, extent in columns])

    counts_cb = values.sum(counts)
    return [(of, np.histogram_bin_edges([], bins, extent)) for of, extent in zip(counts_cb, ranges, strict=True)]
