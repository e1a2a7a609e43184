"""K-means over the embedded cells of all partitions, from their tables on the store."""

from collections.abc import Sequence

import numpy as np

from tasks.core.block import IntArray, NumberArray, decode_matrix, encode_matrix, narrow
from tasks.core.block_kmeans import BlockKMeans
from tasks.core.fold import Blocks
from tasks.core.references import Clustering, Embedding
from tasks.core.settings import Settings
from tasks.core.store import ObjectRef, Outcome, StageKey, Store

VERSION = 2


def fit_kmeans(store: Store, partitions: Sequence[Embedding], settings: Settings) -> Outcome[Clustering]:
    """Cluster the embedded cells of all partitions and label each."""
    of_settings = settings.model_dump(include={"clusters", "seed"})
    inputs = of_settings | {"cells": [part.key for part in partitions]}
    key = StageKey(stage="clustering", version=VERSION, inputs=inputs)

    def make() -> Clustering:
        blocks = _blocks(store, partitions, settings.threads)
        kmeans = BlockKMeans(settings.clusters, random_state=settings.seed).fit(blocks)
        centres = kmeans.cluster_centers_
        return Clustering(
            key=key.digest,
            centres=store.put(f"{key.folder}/centres.arrow", encode_matrix(centres), len(centres)),
            labels=_label(store, key, blocks, kmeans),
            sizes=tuple(int(size) for size in kmeans.cluster_sizes_),
            inertia=kmeans.inertia_,
            passes=kmeans.n_iter_,
            settled=kmeans.settled_,
        )

    return store.answer(key, Clustering, make)


def _blocks(store: Store, partitions: Sequence[Embedding], workers: int) -> Blocks[NumberArray]:
    return Blocks(
        sources=[part.table for part in partitions],
        names=[store.locate(part.table.path) for part in partitions],
        rows=[part.cells for part in partitions],
        read=lambda ref: decode_matrix(store.get(ref)),
        workers=workers,
    )


def _label(store: Store, key: StageKey, blocks: Blocks[NumberArray], kmeans: BlockKMeans) -> tuple[ObjectRef, ...]:
    def label(cells: NumberArray, index: int) -> ObjectRef:
        labels: IntArray = narrow(kmeans.predict(cells))
        return store.put(f"{key.folder}/{index:05}.arrow", encode_matrix(labels[:, None]), len(labels))

    return tuple(blocks.map(label, np.arange(len(blocks.sources))))
