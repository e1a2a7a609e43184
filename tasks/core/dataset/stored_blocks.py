"""What all partitions have in the store, as folds take it."""

from collections.abc import Iterator, Sequence

import numpy as np

from tasks.core.numerics.block import Block, IntArray
from tasks.core.numerics.fold import Blocks
from tasks.core.numerics.moments import Moments
from tasks.core.references.cells import InBlocks, Normalized
from tasks.core.storage.store import Store


def stored_blocks(store: Store, partitions: Sequence[InBlocks], workers: int) -> Blocks[Block]:
    """Give the blocks of the partitions, in order."""
    refs = [ref for part in partitions for ref in part.blocks]
    return Blocks(
        sources=refs,
        names=[store.locate(ref.path) for ref in refs],
        rows=[ref.rows for ref in refs],
        read=lambda ref: Block.from_arrow(store.get(ref)),
        workers=workers,
    )


def stored_moments(store: Store, partitions: Sequence[Normalized], workers: int) -> Moments:
    """Sum up the moments of the partitions."""
    # Some MB of a partition, thousands of times: on S3 one after the other would take as long as a pass.
    refs = [part.moments for part in partitions]
    moments: Blocks[Moments] = Blocks(
        sources=refs,
        names=[store.locate(ref.path) for ref in refs],
        rows=[ref.rows for ref in refs],
        read=lambda ref: Moments.from_arrow(store.get(ref)),
        workers=workers,
    )
    total: Moments = moments.sum(lambda of_partition: of_partition)
    return total


def by_block(partitions: Sequence[InBlocks], codes: Sequence[IntArray]) -> Iterator[IntArray]:
    """Cut what is known of each cell, an array a partition, into the blocks of the partitions."""
    for part, of_part in zip(partitions, codes, strict=True):
        yield from np.split(of_part, np.cumsum([ref.rows for ref in part.blocks])[:-1])
