"""What all partitions have in the store, as folds take it."""

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any

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


def by_block(partitions: Sequence[InBlocks], codes: Blocks[IntArray]) -> Blocks[IntArray]:
    """Cut what is known of each cell, read partition by partition, into the blocks of the partitions."""
    sources: list[tuple[Any, int, int]] = []
    for part, source in zip(partitions, codes.sources, strict=True):
        ends = list(accumulate((ref.rows for ref in part.blocks), initial=0))
        sources += [(source, start, stop) for start, stop in pairwise(ends)]
    # By itself: what reads a block goes to other processes, and need not take all partitions along.
    read = codes.read
    return Blocks(
        sources=sources,
        names=[f"what is known of block {at:,}" for at in range(len(sources))],
        rows=[stop - start for _, start, stop in sources],
        read=lambda of: read(of[0])[of[1] : of[2]],
        workers=codes.workers,
    )
