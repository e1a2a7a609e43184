"""How fast this machine is: the stages' own code on one core, on some thousand simulated cells in a scratch folder."""

import os
import platform
import statistics
import tempfile
import time
from pathlib import Path

from tasks.core.base.settings import Settings
from tasks.core.dataset.landing import land_cells
from tasks.core.dataset.partition_steps import build_counts, normalize, order_genes
from tasks.core.dataset.plan import make_plan
from tasks.core.dataset.synthetic import CELLS_PER_SHARD, write_dataset
from tasks.core.forecast.calibrated_insights import time_insights
from tasks.core.forecast.calibrated_model import time_embedding, time_export, time_svd
from tasks.core.forecast.rates import Rates
from tasks.core.forecast.timing import Sample, Timer, anew
from tasks.core.numerics.fold import one_blas_thread
from tasks.core.storage.store import Store

CELLS = CELLS_PER_SHARD
_WRITES, _WRITE_BYTES = 20, 2_000_000


def calibrate(settings: Settings, enough: float = 1.5) -> Rates:
    """Measure, in half a minute or so, what the forecast of a run needs.

    Args:
        settings: of the run.
        enough: seconds to repeat a step for.
    """
    with tempfile.TemporaryDirectory(prefix="calibration-") as folder, one_blas_thread():
        timer = Timer(enough)
        sample = _sample(settings, Path(folder), timer)
        time_svd(sample, timer)
        embedding = time_embedding(sample, timer)
        insights = time_insights(sample, embedding, timer)
        nonzeros = sample.counts.nonzeros
        return Rates(
            machine=f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
            cells=CELLS,
            pca_dim=settings.pca_dim,
            clusters=settings.cluster_numbers[0],
            nonzeros=nonzeros / CELLS,
            source_bytes=_size(Path(folder) / "dataset" / "data") / CELLS,
            prepared=insights.prepared,
            seconds=timer.seconds,
            stored=_stored(sample) | insights.stored,
            memory=timer.memory,
            write_seconds=_write_seconds(sample.store),
            **time_export(sample, embedding, Path(folder) / "results", timer),
        )


def _sample(settings: Settings, folder: Path, timer: Timer) -> Sample:
    dataset = timer.once("simulation", CELLS, lambda: write_dataset(folder / "dataset", CELLS, 42))
    mine = settings.model_copy(update=_in_one_partition(str(dataset), folder))
    store = Store.at(mine.store)
    plan = make_plan(mine)
    genes = plan.vocabulary
    # The first time, libraries are loaded.
    cells = land_cells(plan.partitions[0], genes, mine).result
    cells = timer.run(
        "streaming",
        cells.nonzeros,
        anew(store, "streaming", lambda: land_cells(plan.partitions[0], genes, mine).result),
    )
    nonzeros = cells.nonzeros
    counts = timer.run("matrix", nonzeros, anew(store, "matrix", lambda: build_counts(store, cells, genes).result))
    order = order_genes(store, counts, genes.genes).result
    make = anew(store, "normalization", lambda: normalize(store, counts, order).result)
    return Sample(mine, store, plan, cells, counts, order, timer.run("normalization", nonzeros, make))


def _in_one_partition(dataset: str, folder: Path) -> dict[str, object]:
    cells: dict[str, object] = {
        "dataset": dataset,
        "revision": None,
        "samples": CELLS,
        "sampling": "first",
        "join": False,
    }
    choice: dict[str, object] = {"where": None, "per": None, "at_most": None, "partition_cells": CELLS, "workers": 1}
    return cells | choice | {"store": str(folder / "store"), "output": str(folder / "results"), "credentials": None}


def _stored(sample: Sample) -> dict[str, float]:
    blocks = {
        "streaming": sample.cells.blocks,
        "matrix": sample.counts.blocks,
        "normalization": sample.normalized.blocks,
    }
    return {stage: sum(ref.size for ref in refs) / sample.counts.nonzeros for stage, refs in blocks.items()}


def _write_seconds(store: Store) -> float:
    """Seconds that a writer waits for the disk for each byte, beside what it works."""
    data, waited = os.urandom(_WRITE_BYTES), []
    for at in range(_WRITES):
        began, worked = time.perf_counter(), time.process_time()
        store.files.write(f"writes/{at}", data)
        waited.append(time.perf_counter() - began - (time.process_time() - worked))
    return max(statistics.median(waited), 0.0) / _WRITE_BYTES


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
