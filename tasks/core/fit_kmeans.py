"""K-means over the embedded cells of all partitions, from their tables on the store."""

from collections.abc import Sequence

from tasks.core.block import encode_matrix
from tasks.core.block_kmeans import BlockKMeans
from tasks.core.label import embedded_blocks, put_labels
from tasks.core.references import Clustering, Embedding
from tasks.core.settings import Settings
from tasks.core.store import Outcome, StageKey, Store

VERSION = 2


def fit_kmeans(store: Store, partitions: Sequence[Embedding], settings: Settings) -> Outcome[Clustering]:
    """Cluster the embedded cells of all partitions and label each."""
    of_settings = settings.model_dump(include={"clusters", "seed"})
    inputs = of_settings | {"cells": [part.key for part in partitions]}
    key = StageKey(stage="clustering", version=VERSION, inputs=inputs)

    def make() -> Clustering:
        blocks = embedded_blocks(store, partitions, settings.threads)
        kmeans = BlockKMeans(settings.clusters, random_state=settings.seed).fit(blocks)
        centres = kmeans.cluster_centers_
        return Clustering(
            key=key.digest,
            centres=store.put(f"{key.folder}/centres.arrow", encode_matrix(centres), len(centres)),
            names=tuple(range(settings.clusters)),
            labels=put_labels(store, key, blocks, centres),
            sizes=tuple(int(size) for size in kmeans.cluster_sizes_),
            inertia=kmeans.inertia_,
            passes=kmeans.n_iter_,
            settled=kmeans.settled_,
        )

    return store.answer(key, Clustering, make)
