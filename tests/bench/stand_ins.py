"""A dataset as large as Tahoe-100M in shards and rows, and stand-ins for the kernels of a run over it.

What a stand-in gives is a right reference to objects that are there, as many as the kernel would leave and a few bytes
each, under the key that the kernel would have. So plan, keys, store, references, folds over blocks, Prefect
and the record are the real ones, and only the numbers are missing. The SVD's panels and sums travel, in their real
size. Stand-ins go to workers in other processes with the steps that use them.
"""

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Self
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tasks.core.base.progress import Progress, report
from tasks.core.base.settings import Settings
from tasks.core.dataset import partition_steps
from tasks.core.model.label import embedded_blocks, put_labels
from tasks.core.numerics.block import Block, NumberArray, encode_matrix, encode_table
from tasks.core.numerics.fold import Blocks
from tasks.core.numerics.krylov import block_width
from tasks.core.numerics.moments import Moments
from tasks.core.numerics.packed import pack
from tasks.core.numerics.ranked import RankedMatrix
from tasks.core.references.cells import Cells, Counts, GeneOrder, Normalized, Partition, Vocabulary
from tasks.core.references.model import Clustering, Components, Embedding, Model
from tasks.core.results.findings import Fit
from tasks.core.results.report_data import EMBEDDING, REPORT, SCREE
from tasks.core.storage.store import Outcome, StageKey, Store, store_of
from tests.small_dataset import gene_table, write_dataset

SHARD_ROWS, GROUP_ROWS, GENES = 28_225, 1_000, 100
SVD_PASSES, KMEANS_PASSES = 9, 20
# Core-seconds a cell, as the slope of 9.2 core-hours for 100 million cells and the shares of the stages have it.
SECONDS_A_CELL = 9.2 * 3600 / 1e8
SHARES = {"streaming": 0.16, "matrix": 0.08, "normalization": 0.16, "svd": 0.39, "embedding": 0.06, "clustering": 0.05}
# A panel of the SVD, all of Tahoe's genes by what a pass adds to the basis.
_PANEL = (62_710, block_width(50, 50))
# Between two blocks of a group, at most; more lies between groups.
_READING_SECONDS = 0.01
_paced = threading.local()
_TEXTS = (
    "drug",
    "sample",
    "BARCODE_SUB_LIB_ID",
    "cell_line_id",
    "moa-fine",
    "canonical_smiles",
    "pubchem_cid",
    "plate",
)


def write_cells(folder: Path, shards: int, cells: int) -> Path:
    """Write a dataset of so many shards of Tahoe's rows and row groups, each cell but a marker; most are one file."""
    full = _shard(SHARD_ROWS)
    write_dataset(folder, [full], gene_table(GENES), GROUP_ROWS, of=shards)
    first = folder / "data" / f"train-{0:05}-of-{shards:05}.parquet"
    for index in range(1, shards - 1):
        os.link(first, first.with_name(f"train-{index:05}-of-{shards:05}.parquet"))
    last = full.slice(0, cells - (shards - 1) * SHARD_ROWS)
    pq.write_table(last, first.with_name(f"train-{shards - 1:05}-of-{shards:05}.parquet"), row_group_size=GROUP_ROWS)
    return folder


def _shard(rows: int) -> pa.Table:
    offsets = np.arange(rows + 1, dtype=np.int32)
    genes = pa.ListArray.from_arrays(offsets, np.ones(rows, np.int64))
    expressions = pa.ListArray.from_arrays(offsets, np.full(rows, -2.0, np.float32))
    return pa.table({"genes": genes, "expressions": expressions} | {name: ["-"] * rows for name in _TEXTS})


class StandIns:
    """The kernels' stand-ins.

    Args:
        settings: of the run.
        pace: of the time that a kernel would take, what its stand-in sleeps; 0: none.
    """

    def __init__(self, settings: Settings, pace: float) -> None:
        self._settings = settings
        self._pace = pace
        # As bytes, for they travel.
        empty = Block(np.zeros(1, np.int64), np.zeros(0, np.int32), np.zeros(0, np.int64))
        self._block, self._packed = bytes(empty.to_arrow()), bytes(pack(empty, GENES))
        self._table = bytes(encode_table(pa.table({"cell": [0]})))
        self._moments = bytes(Moments(1, np.ones(GENES), np.ones(GENES), np.ones(GENES, np.int64)).to_arrow())
        self._dense = bytes(encode_matrix(np.zeros((1, 1), np.float32)))

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Have all runs of this process use them."""
        with ExitStack() as patches:
            for where, stand_in in (
                ("tasks.streaming.land_cells", self.land_cells),
                *((f"tasks.{stage}.partition_steps", self) for stage in ("matrix", "normalization", "svd")),
                ("tasks.core.model.fit_svd._ESTIMATORS", {"svd": self.estimator}),
                ("tasks.core.model.fit_kmeans.fit_kmeans", self.fit_kmeans),
                ("tasks.core.results.results.export", self.export),
                ("tasks.export.write_part", lambda _, folder, number, **__: (folder / f"part-{number}").touch()),
                ("tasks.export.write_csv", lambda _, folder: (folder / "embeddings.csv").touch()),
                ("tasks.report.gather", lambda *_: None),
                ("tasks.core.results.report.write_report", self.write_report),
            ):
                patches.enter_context(patch(where, stand_in))
            yield

    def order_genes(self, store: Store, cells: Cells, vocabulary: Vocabulary) -> Outcome[GeneOrder]:
        """The real one, of no cells."""
        return partition_steps.order_genes(store, None, vocabulary)

    def land_cells(self, partition: Partition, vocabulary: Vocabulary, settings: Settings) -> Outcome[Cells]:
        """Stand in for the kernel of that name, as all that follow do."""
        store = store_of(settings)
        inputs = {"genes": vocabulary.key, "block_cells": settings.block_cells}
        key = StageKey(stage="streaming", version=1, inputs=partition.made_of | inputs)

        def make() -> Cells:
            metadata = store.put(f"{key.folder}/metadata.arrow", self._table, partition.cells)
            landed = self._matrix_of(store, key, partition)
            return Cells(**{name: of for name, of in landed.items() if name != "blocks"}, landed="", metadata=metadata)

        return store.answer(key, Cells, make)

    def build_counts(self, store: Store, cells: Cells, order: GeneOrder, vocabulary: Vocabulary) -> Outcome[Counts]:
        inputs = {"cells": cells.key, "genes": vocabulary.key, "order": order.key}
        key = StageKey(stage="matrix", version=1, inputs=inputs)
        none = {"order": order, "empty_cells": 0, "repeated_pairs": 0}
        return store.answer(key, Counts, lambda: Counts(**self._matrix_of(store, key, cells), **none))

    def normalize(self, store: Store, counts: Counts) -> Outcome[Normalized]:
        inputs = {"counts": counts.key, "target_sum": 1e6}
        key = StageKey(stage="normalization", version=1, inputs=inputs)

        def make() -> Normalized:
            began = time.perf_counter()
            moments = store.put(f"{key.folder}/moments.arrow", self._moments, GENES)
            self._take(key.stage, counts.cells, began)
            common = counts.model_dump(include={"origin", "cells", "nonzeros"})
            return Normalized(**common, key=key.digest, blocks=counts.blocks, moments=moments)

        return store.answer(key, Normalized, make)

    def embed(self, store: Store, normalized: Normalized, order: GeneOrder, model: Components) -> Outcome[Embedding]:
        key = StageKey(stage="embedding", version=1, inputs={"cells": normalized.key, "model": model.key})

        def make() -> Embedding:
            began = time.perf_counter()
            table = store.put(f"{key.folder}/embedding.arrow", self._dense, normalized.cells)
            self._take(key.stage, normalized.cells, began)
            return Embedding(key=key.digest, origin=normalized.origin, cells=normalized.cells, table=table)

        return store.answer(key, Embedding, make)

    def fit_kmeans(
        self, store: Store, partitions: Sequence[Embedding], model: Model, clusters: int, settings: Settings, start: Any
    ) -> Outcome[Clustering]:
        inputs = {"clusters": clusters, "cells": [part.key for part in partitions]}
        key = StageKey(stage="clustering", version=1, inputs=inputs)

        def make() -> Clustering:
            blocks = embedded_blocks(store, partitions, settings.threads)
            centres = np.zeros((clusters, self._settings.pca_dim))
            for number in range(1, KMEANS_PASSES + 1):
                _visit(blocks, lambda rows: self._take("clustering", rows / KMEANS_PASSES), centres)
                report(Progress("clustering", "pass", number))
            labels, sizes = put_labels(store, key, blocks, lambda cells: np.zeros(len(cells), np.int64), clusters)
            return Clustering(
                key=key.digest,
                centres=store.put(f"{key.folder}/centres.arrow", self._dense, clusters),
                labels=labels,
                sizes=sizes,
                names=tuple(range(clusters)),
                named=clusters,
                inertia=0.0,
                passes=KMEANS_PASSES,
                settled=True,
            )

        return store.answer(key, Clustering, make)

    def estimator(self, components: int, **_: object) -> "_Estimator":
        """Give an SVD whose passes read every block and do nothing with it."""
        return _Estimator(components, self._take)

    def export(self, store: Store, folder: Path, fit: Fit, settings: Settings) -> None:
        """Read what the tables would be made of."""
        for at, (cells, embedding) in enumerate(zip(fit.labelled.cells, fit.labelled.embeddings, strict=True)):
            for ref in (cells.metadata, embedding.table, *(of.labels[at] for of in fit.labelled.clusterings.values())):
                store.get(ref)
        # An empty tuple of files would be one for all of Prefect.
        (folder / "pca_variance.csv").touch()

    def write_report(self, _data: object, folder: Path) -> None:
        """Leave a page, and the pictures that the summary shows."""
        for name in (REPORT, SCREE, EMBEDDING):
            (folder / name).write_bytes(b"a picture")

    def _matrix_of(self, store: Store, key: StageKey, part: Partition | Cells | Counts) -> dict[str, Any]:
        began = time.perf_counter()
        size = self._settings.block_cells
        rows = [min(size, part.cells - start) for start in range(0, part.cells, size)]
        data = self._packed if key.stage == "matrix" else self._block
        blocks = tuple(store.put(f"{key.folder}/{at:05}.arrow", data, of) for at, of in enumerate(rows))
        self._take(key.stage, part.cells, began)
        common = {"key": key.digest, "origin": part.origin, "cells": part.cells}
        return common | {"nonzeros": 1_427 * part.cells, "blocks": blocks}

    def _take(self, stage: str, cells: float, began: float | None = None) -> None:
        """Sleep until the kernel would be done that began then, or else as the one before it was done.

        Kernels were measured with what they read and write, so that is not to be counted twice; nor is it how late
        a sleeper wakes where many share two cores.
        """
        if not self._pace:
            return
        now, last = time.perf_counter(), getattr(_paced, "until", 0.0)
        if began is None:
            began = last if now - last < _READING_SECONDS else now
        _paced.until = began + SHARES[stage] * SECONDS_A_CELL * cells * self._pace
        time.sleep(max(0.0, _paced.until - now))


class _Estimator:
    def __init__(self, components: int, take: Callable[[str, float], None]) -> None:
        self.components_ = np.zeros((components, GENES), np.float32)
        self.singular_values_ = self.residuals_ = np.zeros(components)
        self.explained_variance_ = self.explained_variance_ratio_ = self.settled_ = self.singular_values_
        self.n_passes_, self.rank_ = SVD_PASSES, components
        self._take = take

    def fit(self, matrix: RankedMatrix, journal: object) -> None:
        take = self._take
        for number in range(1, SVD_PASSES + 1):
            _visit(matrix.blocks, lambda rows: take("svd", rows / SVD_PASSES), np.zeros(_PANEL, np.float32))
            report(Progress("svd", "pass", number))


def _visit(blocks: Blocks[Any], take: Callable[[float], None], given: NumberArray) -> None:
    """Take a pass over blocks, in which each of them needs what is given, and gives a sum of its shape."""

    def visit(_: object, rows: int) -> _Sum:
        take(rows)
        return _Sum(given.shape)

    blocks.sum(visit, blocks.rows)


class _Sum:
    """A sum over blocks that takes no time to add up, and travels as what it stands for."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._shape = shape

    def __iadd__(self, other: Any) -> Self:
        return self

    def __reduce__(self) -> tuple[Callable[[Any], "_Sum"], tuple[Any]]:
        return _arrived, (np.zeros(self._shape),)


def _arrived(panel: Any) -> _Sum:
    return _Sum(panel.shape)
