"""What all partitions have in the store, as folds take it: counts, and the values that are made of them on the way."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.core.numerics.block import Block, IntArray, decode_matrix, decode_table
from tasks.core.numerics.fold import Blocks
from tasks.core.numerics.moments import Moments
from tasks.core.numerics.normalize import normalize
from tasks.core.numerics.scaling import DEVIATION, MEAN, Scaling, keep_genes
from tasks.core.references.cells import GeneOrder, InBlocks, Normalized, Preparation
from tasks.core.storage.store import ObjectRef, StageKey, Store


def stored_counts(store: Store, partitions: Sequence[InBlocks], workers: int) -> Blocks[Block]:
    """Give the counts of the partitions, genes by popularity, block by block."""
    return _stored(store, partitions, workers, lambda counts: counts)


def stored_values(store: Store, partitions: Sequence[Normalized], workers: int) -> Blocks[Block]:
    """Give the normalized values of the partitions, as all of them are prepared, block by block."""
    return _stored(store, partitions, workers, _valued(store, partitions[0].preparation))


def read_counts(store: Store, refs: Iterable[ObjectRef]) -> Iterator[Block]:
    """Give blocks of counts one after the other."""
    return (_unpack(store.get(ref)) for ref in refs)


def read_values(store: Store, refs: Iterable[ObjectRef], preparation: Preparation | None) -> Iterator[Block]:
    """Give the values that are made of blocks of counts, one after the other."""
    valued = _valued(store, preparation)
    return (valued(block) for block in read_counts(store, refs))


def put_counts(store: Store, key: StageKey, index: int, block: Block, genes: int) -> ObjectRef:
    """Leave a block of counts in the store, in the folder of a stage's result."""
    # It takes half a second to import, and longer where nothing is compiled yet.
    from tasks.core.numerics.packed import pack  # noqa: PLC0415

    return store.put(f"{key.folder}/{index:05}.arrow", pack(block, genes), block.cells)


def gene_ranks(store: Store, order: GeneOrder) -> npt.NDArray[np.int32]:
    """(genes,) column of each gene of the vocabulary, or -1."""
    return decode_matrix(store.get(order.ranks))[:, 0]


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


def _stored(
    store: Store, partitions: Sequence[InBlocks], workers: int, made: Callable[[Block], Block]
) -> Blocks[Block]:
    refs = [ref for part in partitions for ref in part.blocks]
    return Blocks(
        sources=refs,
        names=[store.locate(ref.path) for ref in refs],
        rows=[ref.rows for ref in refs],
        read=lambda ref: made(_unpack(store.get(ref))),
        workers=workers,
    )


def _unpack(data: bytes) -> Block:
    from tasks.core.numerics.packed import unpack  # noqa: PLC0415

    return unpack(data)


def _valued(store: Store, preparation: Preparation | None) -> Callable[[Block], Block]:
    """Give what makes values of counts: normalized; and of the chosen genes alone, scaled, where they are prepared."""
    if preparation is None:
        return normalize
    ranks, kept = gene_ranks(store, preparation.order), gene_ranks(store, preparation.chosen)
    columns = np.full(preparation.order.genes, -1, np.int32)
    columns[ranks] = kept
    if not preparation.scale_max:
        return lambda counts: keep_genes(normalize(counts), columns)
    table = decode_table(store.get(preparation.statistics))
    by_column = np.flatnonzero(kept >= 0)[np.argsort(kept[kept >= 0])]
    means, deviations = (table.column(name).to_numpy()[by_column] for name in (MEAN, DEVIATION))
    scaling = Scaling(means, deviations, preparation.scale_max)
    return lambda counts: scaling.apply(keep_genes(normalize(counts), columns))
