"""K-means over the embedded cells of all partitions, from their tables on the store."""

from collections.abc import Sequence

import numpy as np

from tasks.core.base.settings import Settings
from tasks.core.model.label import embedded_blocks, nearest_of, put_labels
from tasks.core.numerics.block import Float64Array, decode_matrix, encode_matrix
from tasks.core.numerics.block_kmeans import BlockKMeans
from tasks.core.numerics.matching import change_basis, match, names_after
from tasks.core.references.model import Clustering, Embedding, Fitted, Model
from tasks.core.storage.store import Outcome, StageKey, Store

VERSION = 7


def fit_kmeans(
    store: Store,
    partitions: Sequence[Embedding],
    model: Model,
    clusters: int,
    settings: Settings,
    start: Fitted | None,
) -> Outcome[Clustering]:
    """Cluster the embedded cells of all partitions and label each, from the centres of an earlier run if given.

    Clusters that continue one of the earlier run have its name.
    """
    inputs = {
        "clusters": clusters,
        "seed": settings.seed,
        "cells": [part.key for part in partitions],
        "start": None if start is None else start.clustering.key,
    }
    key = StageKey(stage="clustering", version=VERSION, inputs=inputs)

    def make() -> Clustering:
        blocks = embedded_blocks(store, partitions, settings.threads)
        before = None if start is None else _centres_in(store, start, model)
        init = before if before is not None and len(before) == clusters else None
        kmeans = BlockKMeans(clusters, random_state=settings.seed, init=init).fit(blocks)
        names = _names(kmeans.cluster_centers_, before, start)
        by_name = np.argsort(names)
        centres = kmeans.cluster_centers_[by_name]
        # Of centres at one place the first has all cells: which one that is, their names decide.
        labels, sizes = put_labels(store, key, blocks, nearest_of(centres), clusters)
        return Clustering(
            key=key.digest,
            centres=store.put(f"{key.folder}/centres.arrow", encode_matrix(centres), len(centres)),
            labels=labels,
            sizes=sizes,
            names=tuple(sorted(names)),
            named=max(max(names) + 1, 0 if start is None else start.clustering.named),
            inertia=kmeans.inertia_,
            passes=kmeans.n_iter_,
            settled=kmeans.settled_,
        )

    return store.answer(key, Clustering, make)


def _centres_in(store: Store, start: Fitted, model: Model) -> Float64Array:
    """Give the centres of an earlier run in the components of this one."""
    from_gk, to_gl = (decode_matrix(store.get(of.components)) for of in (start.model, model))
    return change_basis(decode_matrix(store.get(start.clustering.centres)), from_gk, to_gl)


def _names(centres: Float64Array, before: Float64Array | None, start: Fitted | None) -> tuple[int, ...]:
    if before is None or start is None:
        return tuple(range(len(centres)))
    return names_after(start.clustering.names, start.clustering.named, match(before, centres), len(centres))
