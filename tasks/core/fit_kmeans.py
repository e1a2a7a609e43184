"""K-means over the embedded cells of all partitions."""

from collections.abc import Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import reduce
from operator import add

import numpy as np

from tasks.core.block import Float64Array, IntArray, NumberArray, decode_matrix, encode_matrix, narrow
from tasks.core.fold import in_order
from tasks.core.kmeans import SAMPLE_CELLS, Centres, ClusterSums, assign, lloyd, start_centres
from tasks.core.progress import Progress, report
from tasks.core.references import Clustering, Embedding, Model
from tasks.core.settings import Settings
from tasks.core.store import Outcome, StageKey, Store

VERSION = 1


def fit_kmeans(store: Store, partitions: Sequence[Embedding], model: Model, settings: Settings) -> Outcome[Clustering]:
    """Cluster the embedded cells of all partitions and label each."""
    of_settings = settings.model_dump(include={"clusters", "seed"})
    inputs = of_settings | {"cells": [part.key for part in partitions]}
    key = StageKey(stage="clustering", version=VERSION, inputs=inputs)

    def make() -> Clustering:
        with ThreadPoolExecutor(settings.threads) as executor:
            cells = _EmbeddedCells(store, partitions, executor, settings.threads)
            start = start_centres(cells.sample(settings.seed), settings.clusters, settings.seed)
            found = lloyd(cells.sums, start, float(np.mean(model.variances)), _report)
            return _label(store, key, cells, found)

    return store.answer(key, Clustering, make)


@dataclass(frozen=True)
class _EmbeddedCells:
    store: Store
    partitions: Sequence[Embedding]
    executor: Executor
    workers: int

    def read(self, part: Embedding) -> NumberArray:
        """(cells, k) embedding of one partition."""
        return decode_matrix(self.store.get(part.table))

    def sums(self, centres: Float64Array) -> ClusterSums:
        """One Lloyd pass."""
        passed = in_order(
            self.executor,
            lambda part: ClusterSums.of(self.read(part), centres),
            self.partitions,
            self.workers + 1,
        )
        return reduce(add, passed)

    def labels(self, part: Embedding, centres: Float64Array) -> tuple[IntArray, float]:
        """Cluster of each cell of a partition, and their inertia."""
        labels, distances = assign(self.read(part), centres)
        return narrow(labels), float(distances.sum())

    def sample(self, seed: int) -> NumberArray:
        """At most SAMPLE_CELLS cells, drawn evenly from all, in order."""
        total = sum(part.cells for part in self.partitions)
        rng = np.random.default_rng([seed, VERSION])
        drawn = np.sort(rng.choice(total, min(total, SAMPLE_CELLS), replace=False))
        ends = np.cumsum([part.cells for part in self.partitions])
        groups = np.split(drawn, np.searchsorted(drawn, ends[:-1]))
        starts = ends - [part.cells for part in self.partitions]
        return np.concatenate(
            [self.read(part)[rows - start] for part, rows, start in zip(self.partitions, groups, starts, strict=True)]
        )


def _report(passes: int, inertia: float) -> None:
    report(Progress("clustering", "pass", passes, note=f"inertia {inertia:.6g}"))


def _label(store: Store, key: StageKey, cells: _EmbeddedCells, found: Centres) -> Clustering:
    refs = []
    inertia = 0.0
    sizes = np.zeros(len(found.centres), np.int64)
    labelled = in_order(
        cells.executor, lambda part: cells.labels(part, found.centres), cells.partitions, cells.workers + 1
    )
    for index, (labels, part_inertia) in enumerate(labelled):
        refs.append(store.put(f"{key.folder}/{index:05}.arrow", encode_matrix(labels[:, None]), len(labels)))
        sizes += np.bincount(labels, minlength=len(sizes))
        inertia += part_inertia
    return Clustering(
        key=key.digest,
        centres=store.put(f"{key.folder}/centres.arrow", encode_matrix(found.centres), len(found.centres)),
        labels=tuple(refs),
        sizes=tuple(int(size) for size in sizes),
        inertia=inertia,
        passes=found.passes,
        settled=found.settled,
    )
