"""Moments of each gene in each batch of cells: what variable genes are chosen by."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from tasks.core.numerics.block import Block, Float64Array, IntArray, offsets_of
from tasks.core.numerics.moments import Moments


@dataclass(frozen=True)
class GroupMoments:
    """Moments by batch, mergeable by addition; a batch without cells takes no room.

    Attributes:
        batches: moments of each batch that has cells, by its name.
    """

    batches: Mapping[str, Moments]

    @classmethod
    def of(cls, block: Block, codes: IntArray, names: Sequence[str], genes: int) -> Self:
        """Moments of one block, the batch of each cell given as an index in the names; codes of shape (cells,).

        A float32 is squared as float32, for so does scanpy; a whole number exactly.
        """
        there, places = np.unique(codes, return_inverse=True)
        of_each = Moments.by_group(block, places, len(there), genes)
        return cls({names[code]: moments for code, moments in zip(there, of_each, strict=True)})

    @classmethod
    def above(cls, block: Block, codes: IntArray, names: Sequence[str], bounds: Mapping[str, Float64Array]) -> Self:
        """Moments, over all the cells, of the values alone that are above the bound of their batch and gene.

        Bounds are of shape (genes,) for each batch.
        """
        there, places = np.unique(codes, return_inverse=True)
        bounds_bg = np.stack([bounds[names[code]] for code in there])
        lengths = np.diff(block.offsets)
        large = np.flatnonzero(block.values > bounds_bg[np.repeat(places, lengths), block.genes])
        cell = np.repeat(np.arange(block.cells), lengths)[large]
        offsets = offsets_of(np.bincount(cell, minlength=block.cells))
        return cls.of(Block(offsets, block.genes[large], block.values[large]), codes, names, bounds_bg.shape[1])

    def __add__(self, other: Self) -> Self:
        merged = dict(self.batches)
        for name, moments in other.batches.items():
            merged[name] = merged[name] + moments if name in merged else moments
        return type(self)(merged)

    @property
    def whole(self) -> Moments:
        """Moments of all cells together, summed in the order of the batches' names."""
        first, *others = (self.batches[name] for name in sorted(self.batches))
        return sum(others, start=first)

    def renumbered(self, columns: IntArray) -> Self:
        """Give the moments of genes in another order: the first is that of `columns[0]` here, and so on."""
        return type(self)({name: of.renumbered(columns) for name, of in self.batches.items()})


def counts_per_million(normalized: Block) -> Block:
    """Undo log1p: the values of which dispersions are taken; in float32, as scanpy does."""
    return Block(normalized.offsets, normalized.genes, np.expm1(normalized.values))
