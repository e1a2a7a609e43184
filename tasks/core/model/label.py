"""The cluster of each embedded cell: its nearest centre."""

from collections.abc import Callable, Sequence

import numpy as np

from tasks.core.base.settings import RunSettings
from tasks.core.numerics.block import Float64Array, IntArray, NumberArray, decode_matrix, encode_matrix, narrow
from tasks.core.numerics.fold import Blocks
from tasks.core.numerics.lloyd import assign, sum_up
from tasks.core.references.model import Assigned, Clusters, Embedding, Labels
from tasks.core.storage.store import ObjectRef, Outcome, StageKey, Store

VERSION = 4


def label_cells(
    store: Store, partitions: Sequence[Embedding], clusters: Clusters, settings: RunSettings
) -> Outcome[Labels]:
    """Give the cells of all partitions the nearest of centres that stay where they are."""
    inputs = {"cells": [part.key for part in partitions], "clusters": clusters.key}
    key = StageKey(stage="labels", version=VERSION, inputs=inputs)

    def make() -> Labels:
        blocks = embedded_blocks(store, partitions, settings.threads)
        centres = decode_matrix(store.get(clusters.centres))
        labels, sizes = put_labels(store, key, blocks, nearest_of(centres), len(centres))
        return Labels(
            key=key.digest,
            centres=clusters.centres,
            names=clusters.names,
            labels=labels,
            sizes=sizes,
            inertia=sum_up(blocks, centres).inertia,
        )

    return store.answer(key, Labels, make)


def embedded_blocks(store: Store, partitions: Sequence[Embedding], workers: int) -> Blocks[NumberArray]:
    """Give the embedded cells, (n, k), a block a partition."""
    return Blocks(
        sources=[part.table for part in partitions],
        names=[store.locate(part.table.path) for part in partitions],
        rows=[part.cells for part in partitions],
        read=lambda ref: decode_matrix(store.get(ref)),
        workers=workers,
    )


def nearest_of(centres: Float64Array) -> Callable[[NumberArray], IntArray]:
    """Give what labels cells, (n, k), with the numbers of the nearest of centres."""
    return lambda cells: assign(cells, centres)[0]


def stored_labels(store: Store, assigned: Assigned, workers: int) -> Blocks[IntArray]:
    """Give the cluster of each cell, by its place among the names, a block a partition."""
    return Blocks(
        sources=assigned.labels,
        names=[store.locate(ref.path) for ref in assigned.labels],
        rows=[ref.rows for ref in assigned.labels],
        read=lambda ref: decode_matrix(store.get(ref))[:, 0],
        workers=workers,
    )


def put_labels(
    store: Store, key: StageKey, blocks: Blocks[NumberArray], label: Callable[[NumberArray], IntArray], clusters: int
) -> tuple[tuple[ObjectRef, ...], tuple[int, ...]]:
    """Leave the label of each cell in the store, an object a block; give these, and the cells of each cluster."""
    folder, refs, sizes = key.folder, [], np.zeros(clusters, np.int64)

    def put(cells: NumberArray, index: int) -> tuple[ObjectRef, IntArray]:
        labels = narrow(label(cells))
        ref = store.put(f"{folder}/{index:05}.arrow", encode_matrix(labels[:, None]), len(labels))
        return ref, np.bincount(labels, minlength=clusters)

    for ref, of_block in blocks.map(put, np.arange(len(blocks.sources))):
        refs.append(ref)
        sizes += of_block
    return tuple(refs), tuple(sizes.tolist())
