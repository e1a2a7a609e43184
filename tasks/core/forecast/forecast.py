"""What a run would read, write, hold in memory, take and cost."""

from collections.abc import Sequence
from pathlib import Path
from shutil import disk_usage
from typing import Any

from tasks.core.base.settings import Settings
from tasks.core.forecast.extent import Extent
from tasks.core.forecast.rates import Rates
from tasks.core.forecast.stages import StageForecast, stages_of
from tasks.core.model.fit_svd import KEPT_BYTES
from tasks.core.numerics.krylov import block_width
from tasks.core.storage.store import Reference, store_of

# Workers of whom the time is told beside those asked for.
USUAL_WORKERS = (2, 16, 32, 64)
# Begin and end of a run with a temporary Prefect server: imports, the server, the last states.
_BEGIN_SECONDS = 12.0
# Python, Prefect and all libraries; and what the client keeps of a task run until the flow ends.
_PROCESS_BYTES, _TASK_RUN_BYTES = 420e6, 37e3
# Share of the genes that any cell expresses, the others' loadings being zeros; and bytes of a gene's id and symbol.
_EXPRESSED, _GENE_BYTES = {True: 0.4, False: 1.0}, 27.0
# Of a nonzero in a block: decoded, and as a matrix.
_BLOCK_BYTES = 14.0
_BY_PARTITION = ("streaming", "matrix", "quality", "normalization", "preparation", "embedding")


class Span(Reference):
    """What a run takes on so many workers.

    Attributes:
        hours: from its begin to its end.
        cost: of all cores for that time; None where no price is given.
    """

    workers: int
    hours: float
    cost: float | None


class Forecast(Reference):
    """What a run would take.

    Attributes:
        settings: that it is for.
        price: of a core for an hour.
        network: bytes a second from the Hub, where that is known.
        core_hours: of work, on however many cores.
        spans: for the workers asked for, the first, and for usual numbers of them.
        written: bytes to the store.
        room: bytes in the store when they are most.
        left: bytes in the store after the run.
        free: bytes free where the store is; None where that cannot be known.
        results: bytes in the output.
        worker_memory: most bytes that one worker holds at once.
        memory: most bytes of the flow's process, with all workers as its threads.
    """

    settings: dict[str, Any]
    extent: Extent
    rates: Rates
    price: float | None
    network: float | None
    stages: tuple[StageForecast, ...]
    core_hours: float
    spans: tuple[Span, ...]
    written: float
    room: float
    left: float
    free: float | None
    results: float
    worker_memory: float
    memory: float

    @property
    def task_runs(self) -> int:
        """Task runs of all stages."""
        return sum(stage.task_runs for stage in self.stages)


def forecast(
    settings: Settings, extent: Extent, rates: Rates, price: float | None = None, network: float | None = None
) -> Forecast:
    """Put together what a run would take.

    Args:
        settings: of the run.
        extent: of what it reads.
        rates: of one core.
        price: of a core for an hour.
        network: bytes a second from the Hub.

    Raises:
        SettingsError: a rate is missing.
    """
    stages = stages_of(settings, extent, rates, network)
    written = sum(stage.written for stage in stages)
    of_partition = max(rates.memory.get(stage, 0.0) for stage in _BY_PARTITION)
    workers = dict.fromkeys((settings.threads, *USUAL_WORKERS))
    return Forecast(
        settings=settings.model_dump(mode="json"),
        extent=extent,
        rates=rates,
        price=price,
        network=network,
        stages=stages,
        core_hours=sum(stage.core_seconds for stage in stages) / 3600,
        spans=tuple(_span(stages, number, price) for number in workers),
        written=written,
        room=written + _passing(settings, extent),
        left=_left(settings, stages),
        free=_free(settings),
        results=_results(settings, extent, rates),
        worker_memory=max(of_partition, _of_a_pass(settings, extent)),
        memory=_memory(settings, extent, stages, of_partition),
    )


def _span(stages: Sequence[StageForecast], workers: int, price: float | None) -> Span:
    hours = (_BEGIN_SECONDS + sum(stage.seconds(workers) for stage in stages)) / 3600
    return Span(workers=workers, hours=hours, cost=None if price is None else price * hours * workers)


def _passing(settings: Settings, extent: Extent) -> float:
    """Bytes of what is removed during the run: the basis of the SVD, pass by pass."""
    columns = max(240, 6 * settings.pca_dim) + block_width(settings.pca_dim, settings.svd_max_passes)
    return 8.0 * extent.genes * columns


def _left(settings: Settings, stages: Sequence[StageForecast]) -> float:
    kept = {"none": set(), "counts": {"streaming", "matrix", "gene order"}}.get(settings.keep_intermediates)
    return sum(stage.written for stage in stages if kept is None or stage.stage in kept)


def _free(settings: Settings) -> float | None:
    files = store_of(settings).files
    if not files.is_local:
        return None
    root = Path(files.root).resolve()
    return float(disk_usage(next(folder for folder in (root, *root.parents) if folder.exists())).free)


def _results(settings: Settings, extent: Extent, rates: Rates) -> float:
    parquet = extent.parquet_metadata + 4.0 * settings.pca_dim
    csv = extent.csv_metadata + rates.csv_number * settings.pca_dim
    components = _EXPRESSED[extent.simulated] * 4.0 * settings.pca_dim + _GENE_BYTES
    return extent.cells * (parquet + csv) + extent.genes * components


def _of_a_pass(settings: Settings, extent: Extent) -> float:
    """Bytes that a worker holds in a pass: a block, as it is read and as a matrix, and panels of genes by columns."""
    block = _BLOCK_BYTES * settings.block_cells * extent.nonzeros / extent.cells
    return block + 3 * 4.0 * extent.genes * block_width(settings.pca_dim, settings.svd_max_passes)


def _memory(settings: Settings, extent: Extent, stages: Sequence[StageForecast], of_partition: float) -> float:
    always = _PROCESS_BYTES + _TASK_RUN_BYTES * sum(stage.task_runs for stage in stages)
    passes = KEPT_BYTES + _passing(settings, extent) + settings.threads * _of_a_pass(settings, extent)
    return always + max(passes, settings.threads * of_partition)
