"""Chosen genes, and genes scaled to unit variance, in blocks that stay sparse."""

from dataclasses import dataclass
from typing import Self

import numpy as np

from tasks.core.numerics.block import Block, Float64Array, IntArray, as_offsets
from tasks.core.numerics.moments import Moments

# Columns of a table of genes, as scanpy names them.
MEAN, DEVIATION = "mean", "std"
# scanpy's tutorials clip there.
MAX_VALUE = 10.0


@dataclass(frozen=True)
class Scaling:
    """scanpy's `pp.scale` with a `max_value`, each gene shifted so that what is not stored stays zero.

    A constant for each gene is all that the result differs by from scanpy's, and a centred PCA does not see it.

    Attributes:
        means: (genes,).
        deviations: (genes,) standard deviations, over n - 1; 1 where a gene does not vary.
        max_value: deviations from the mean at which values are clipped.
    """

    means: Float64Array
    deviations: Float64Array
    max_value: float = MAX_VALUE

    @classmethod
    def of(cls, moments: Moments) -> Self:
        """Scaling of genes from the moments of all cells."""
        deviations = np.sqrt(moments.sample_variances)
        return cls(moments.means, np.where(deviations == 0, 1.0, deviations))

    @property
    def shifts(self) -> Float64Array:
        """(genes,) what a value of zero is scaled to; add it to get scanpy's numbers."""
        return np.maximum(-self.means / self.deviations, -self.max_value)

    def apply(self, block: Block) -> Block:
        """Scale a block's values: `(x - mean) / deviation`, clipped, less the gene's shift, float32."""
        scaled = (block.values - self.means[block.genes]) / self.deviations[block.genes]
        scaled = np.clip(scaled, -self.max_value, self.max_value) - self.shifts[block.genes]
        return Block(block.offsets, block.genes, scaled.astype(np.float32))


def keep_genes(block: Block, columns: IntArray) -> Block:
    """Keep the values of some genes alone: those that have a column, of (genes,), other than -1."""
    genes = columns[block.genes]
    kept = genes >= 0
    before = np.concatenate([[0], np.cumsum(kept, dtype=np.int64)])
    return Block(as_offsets(before[block.offsets]), genes[kept], block.values[kept])
