"""A matrix as the SVD takes it: blocks of rows, columns by popularity."""

from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from tasks.core.numerics.block import Block, IntArray
from tasks.core.numerics.fold import Blocks
from tasks.core.numerics.moments import Moments

_BLOCK_ROWS = 2_000


def rank_by_popularity(cells_per_gene: IntArray) -> npt.NDArray[np.int32]:
    """Rank of each gene when those seen in most cells come first; ties in the genes' own order.

    Sparse products are bound by cache: with the genes that most values belong to side by side, the rows of a
    dense panel that they touch stay there.
    """
    order = np.argsort(-cells_per_gene.astype(np.int64), kind="stable")
    ranks = np.empty(len(order), np.int32)
    ranks[order] = np.arange(len(order), dtype=np.int32)
    return ranks


@dataclass(frozen=True)
class RankedMatrix:
    """All blocks of a matrix, and what is known of its genes.

    Attributes:
        blocks: values as float32.
        ranks: (genes,) column of each gene in them.
        moments: of the genes by rank.
    """

    blocks: Blocks[Block]
    ranks: npt.NDArray[np.int32]
    moments: Moments

    @classmethod
    def of(cls, x_ng: Any, workers: int) -> Self:
        """Rank and cut a CSR matrix that is in memory; takes as much memory again, of float32."""
        genes = x_ng.shape[1]
        rows: Blocks[Any] = Blocks.cut(x_ng, _BLOCK_ROWS, workers)
        ranks = rank_by_popularity(rows.sum(lambda part: np.bincount(part.indices, minlength=genes)))

        def rank(part: Any) -> Block:
            if not part.data.all():
                # A zero that is stored would be a value of a column that nothing is expressed in.
                part = sp.csr_array(part, copy=True)
                part.eliminate_zeros()
            return Block(part.indptr, ranks[part.indices], part.data.astype(np.float32))

        moments = rows.sum(lambda part: Moments.of(rank(part), genes))
        ranked = list(rows.map(rank))
        return cls(replace(rows, sources=ranked, read=lambda part: part), ranks, moments)
