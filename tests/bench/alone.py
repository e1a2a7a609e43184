"""One thing in a process of its own, timed without what it needs to begin with.

    python -m tests.bench.alone WHAT DATASET CELLS STORE ANSWER

Writes what it took, and where it is an SVD the singular values, to the file ANSWER as JSON.
"""

import gc
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# A decoder is to have one core, libraries' own threads included: before they are imported and count the cores.
if __name__ == "__main__" and sys.argv[1].startswith("decode"):
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})

import numpy as np
import scipy.sparse as sp
from datasets import load_dataset

from tasks.core.base.memory import peak_memory, release_memory, reset_peak_memory, use_one_heap
from tasks.core.base.settings import Settings
from tasks.core.dataset.cells import read_cells
from tasks.core.dataset.plan import column_of_token, make_plan
from tasks.core.dataset.source import stream_partition
from tasks.core.model.fit_svd import fit_svd
from tasks.core.numerics.counts import build_counts
from tasks.core.numerics.fold import one_blas_thread
from tasks.core.numerics.packed import unpack
from tasks.core.storage.store import Store
from tests.bench import core_steps, encodings
from tests.exact import decompose, read_normalized

COMPONENTS, CLUSTERS = 50, 10


def main(what: str, dataset: str, cells: str, store: str, answer: str) -> None:
    settings = Settings(
        dataset=dataset,
        samples=int(cells),
        store=store,
        output=f"{answer}-results",
        pca_dim=COMPONENTS,
        clusters=CLUSTERS,
    )
    if what in AS_IN_THE_FLOW:
        use_one_heap()
    Path(answer).write_text(json.dumps(WHAT[what](settings)))


@contextmanager
def timed(measured: dict[str, Any]) -> Iterator[None]:
    # What making the input took and gave back is no part of it.
    gc.collect()
    release_memory()
    reset_peak_memory()
    began, cpu = time.perf_counter(), time.process_time()
    yield
    measured["wall_seconds"] = time.perf_counter() - began
    measured["cpu_seconds"] = time.process_time() - cpu
    measured["peak_bytes"] = peak_memory()


def decode(settings: Settings) -> dict[str, Any]:
    """Shards to CSR blocks by this project."""
    measured: dict[str, Any] = {}
    plan = make_plan(settings)
    columns = column_of_token(Store.at(settings.store), plan.vocabulary)
    with timed(measured):
        for part in plan.partitions:
            for rows, table in stream_partition(part):
                build_counts(read_cells(table, columns >= 0, part.shard_name, rows), columns)
    return measured


def decode_dicts(settings: Settings) -> dict[str, Any]:
    """Iterating rows as dicts, and nothing more."""
    measured: dict[str, Any] = {}
    with timed(measured):
        for _row in load_dataset(settings.dataset, "expression_data", split="train", streaming=True).take(
            settings.samples
        ):
            pass
    return measured


def decode_dicts_to_csr(settings: Settings) -> dict[str, Any]:
    """Rows as dicts to a CSR matrix: what one would write by hand."""
    genes = load_dataset(settings.dataset, "gene_metadata", split="train")
    column_of = {token: column for column, token in enumerate(genes["token_id"])}
    measured: dict[str, Any] = {}
    with timed(measured):
        values: list[float] = []
        indices: list[int] = []
        indptr = [0]
        for row in load_dataset(settings.dataset, "expression_data", split="train", streaming=True).take(
            settings.samples
        ):
            indices.extend(column_of[token] for token in row["genes"][1:])
            values.extend(row["expressions"][1:])
            indptr.append(len(indices))
        sp.csr_matrix((np.array(values, np.float32), indices, indptr), shape=(len(indptr) - 1, len(column_of)))
    return measured


def svd_ours(settings: Settings) -> dict[str, Any]:
    """This project's SVD, from normalized blocks on the disk to the model there."""
    measured: dict[str, Any] = {}
    made = core_steps.prepare(settings)
    with timed(measured), one_blas_thread():
        outcome = fit_svd(Store.at(settings.store), made.normalized, made.order, settings, None)
    assert not outcome.cached
    return measured | {"singular_values": outcome.result.singular_values, "passes": outcome.result.passes}


def svd_sklearn(settings: Settings) -> dict[str, Any]:
    """scikit-learn's TruncatedSVD with its defaults, on the same matrix in memory."""
    from sklearn.decomposition import TruncatedSVD  # noqa: PLC0415

    measured: dict[str, Any] = {}
    matrix = _matrix(settings)
    svd = TruncatedSVD(COMPONENTS, n_iter=5, random_state=0)
    with timed(measured):
        svd.fit(matrix)
    return measured | {"singular_values": svd.singular_values_.tolist()}


def svd_scanpy(settings: Settings) -> dict[str, Any]:
    """scanpy's PCA that is not centred, with its defaults, on the same matrix in memory."""
    import anndata  # noqa: PLC0415
    import scanpy  # noqa: PLC0415

    measured: dict[str, Any] = {}
    matrix = anndata.AnnData(_matrix(settings))
    with timed(measured):
        scanpy.pp.pca(matrix, n_comps=COMPONENTS, zero_center=False)
    return measured | {"singular_values": np.linalg.norm(matrix.obsm["X_pca"].astype(np.float64), axis=0).tolist()}


def svd_exact(settings: Settings) -> dict[str, Any]:
    """The exact answer, to measure the others against."""
    measured: dict[str, Any] = {}
    with timed(measured):
        exact = decompose(read_normalized(Path(settings.dataset), int(settings.samples)), COMPONENTS)
    return measured | {"singular_values": exact.values.tolist(), "ratios": exact.ratios.tolist()}


def decode_encodings(settings: Settings) -> dict[str, Any]:
    """Ways to keep the blocks on disk."""
    made, store = core_steps.prepare(settings), Store.at(settings.store)
    counts = made.counts[0]
    return {"counts": encodings.compare(unpack(store.get(counts.blocks[0])), counts.order.genes)}


def without_prefect(settings: Settings) -> dict[str, Any]:
    """The whole job without Prefect."""
    measured: dict[str, Any] = {}
    with timed(measured), one_blas_thread():
        core_steps.run(settings)
    return measured


def _rows(settings: Settings) -> Any:
    return load_dataset(settings.dataset, "expression_data", split="train", streaming=True).take(settings.samples)


def _matrix(settings: Settings) -> Any:
    # scanpy's path wants the matrix class, not the array's.
    return sp.csr_matrix(read_normalized(Path(settings.dataset), int(settings.samples)).astype(np.float32))


AS_IN_THE_FLOW = {"decode", "svd_ours", "without_prefect"}
WHAT: dict[str, Callable[[Settings], dict[str, Any]]] = {
    function.__name__: function
    for function in (
        *(decode, decode_dicts, decode_dicts_to_csr),
        *(svd_ours, svd_sklearn, svd_scanpy, svd_exact),
        decode_encodings,
        without_prefect,
    )
}

if __name__ == "__main__":
    main(*sys.argv[1:])
