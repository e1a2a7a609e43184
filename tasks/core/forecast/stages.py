"""The stages of a run, and how much work each is, from what is read and how fast a core is."""

from collections.abc import Iterator

import numpy as np

from tasks.core.base.settings import Settings
from tasks.core.forecast.extent import Extent
from tasks.core.forecast.rates import Rates
from tasks.core.model.fit_svd import KEPT_BYTES
from tasks.core.numerics.harmony import Harmony
from tasks.core.numerics.krylov import block_width
from tasks.core.numerics.leiden import MOST_NODES
from tasks.core.references.batches import batch_sizes
from tasks.core.storage.store import Reference

# Measured until every component had settled to 5e-4: on simulated cells, which have some 50 well separated ones, and
# on real cells of five lines. How many it takes depends on the gaps between singular values, more than on the number
# of cells.
_PASSES_OF = {
    True: {10: 14, 20: 15, 50: 8, 100: 26, 200: 29},
    False: {10: 7, 20: 13, 50: 23, 100: 22, 200: 17},
}
_WARM_UP = 2 / 12
# From the best of several starts on a sample.
_LLOYD_PASSES = 10
# What Prefect and the flow do of a step, in one thread.
_STEP_SECONDS = 0.005
# Whatever the number of cells.
_PICTURES_SECONDS, _REPORT_SECONDS = 1.5, 0.7
_FLOAT = 4.0
# What a core does of its work alone while its neighbours work too: measured for two threads, on 200,000 cells.
_TOGETHER = 0.85


class StageForecast(Reference):
    """Work of a stage.

    Attributes:
        task_runs: of Prefect.
        passes: over its cells.
        spread: seconds of one core, on all workers alike.
        combined: seconds that one thread takes to put together what the workers give, while they go on.
        alone: seconds that one thread takes while the workers wait.
        waits: seconds that workers wait for the disk, in all.
        at_least: seconds that the network takes.
        read: bytes from the source or the store.
        written: bytes to the store.
    """

    stage: str
    task_runs: int
    passes: float = 1.0
    spread: float = 0.0
    combined: float = 0.0
    alone: float = 0.0
    waits: float = 0.0
    at_least: float = 0.0
    read: float = 0.0
    written: float = 0.0

    def seconds(self, workers: int) -> float:
        """Give the time that it takes with so many workers, each on a core of its own."""
        together = 1.0 if workers == 1 else workers * _TOGETHER
        shared = (self.spread + self.combined + self.waits) / together
        return self.alone + max(shared, self.combined, self.at_least)

    @property
    def core_seconds(self) -> float:
        """Give the time that it keeps cores busy, whatever their number, if there are several."""
        return (self.spread + self.combined) / _TOGETHER + self.alone


def svd_passes(settings: Settings, *, simulated: bool) -> int:
    """Give the passes that an SVD may take, between the numbers of components that it was measured for."""
    measured = _PASSES_OF[simulated]
    passes = np.interp(settings.pca_dim, list(measured), list(measured.values()))
    return min(settings.svd_max_passes, round(float(passes)))


def stages_of(settings: Settings, extent: Extent, rates: Rates, network: float | None) -> tuple[StageForecast, ...]:
    """Give the stages of a run in their order.

    Args:
        settings: of the run.
        extent: of what it reads.
        rates: of one core.
        network: bytes a second from the Hub; None where it does not matter or is not known.

    Raises:
        SettingsError: a rate is missing.
    """
    work = _Work(settings, extent, rates)
    return (*work.cells(network), *work.genes(), *work.model(), *work.insights(), *work.export())


class _Work:
    def __init__(self, settings: Settings, extent: Extent, rates: Rates) -> None:
        self.settings = settings
        self.recipe = settings.recipe_in_full
        self.extent = extent
        self.rates = rates
        self.normalized = extent.nonzeros * rates.stored["normalization"]
        self.embedded = _FLOAT * extent.cells * settings.pca_dim

    def cells(self, network: float | None) -> Iterator[StageForecast]:
        """Give the stages up to the normalized cells."""
        extent, rates = self.extent, self.rates
        simulation = rates.of("simulation") * extent.cells if self.settings.is_synthetic else 0.0
        yield StageForecast(stage="plan", task_runs=1, alone=simulation + _STEP_SECONDS * extent.shards)
        tokens, counts = (extent.nonzeros * rates.stored[stage] for stage in ("streaming", "matrix"))
        streaming = self._each("streaming", extent.source_bytes, tokens)
        hub = extent.source_bytes / network if network and extent.remote else 0.0
        yield streaming.model_copy(update={"at_least": hub})
        yield self._each("matrix", tokens, counts)
        yield StageForecast(stage="gene order", task_runs=1, written=_FLOAT * extent.genes)
        if self.recipe.checks_cells:
            # A block is written again if one of its cells is left out.
            yield self._each("quality", counts, counts)
        yield self._each("normalization", counts, self.normalized)

    def genes(self) -> Iterator[StageForecast]:
        """Give what is done where the components are of some of the genes."""
        if not self.recipe.prepares_genes:
            return
        seconds = self.rates.of("genes") * self.extent.nonzeros
        yield StageForecast(stage="genes", task_runs=1, spread=seconds, read=self.normalized)
        yield self._each("preparation", self.normalized, self.prepared_bytes)

    def model(self) -> Iterator[StageForecast]:
        """Give the decomposition, the embedding, its correction and the clusters."""
        extent, rates, dim = self.extent, self.rates, self.settings.pca_dim
        yield self._svd()
        seconds = rates.of("embedding") * self.nonzeros * dim
        yield self._task_each("embedding", seconds, self.prepared_bytes, self.embedded)
        if self.recipe.correction != "none":
            rounds = Harmony().max_rounds
            seconds = rates.of("correction") * extent.cells * dim * rounds
            yield StageForecast(
                stage="correction",
                task_runs=1,
                passes=rounds,
                spread=seconds,
                alone=rates.of("harmony"),
                read=rounds * self.embedded,
                # Of all rounds, two are there at a time, and the last one stays.
                written=2 * self.embedded,
            )
        for number in self.settings.cluster_numbers:
            yield self._kmeans(number)

    def insights(self) -> Iterator[StageForecast]:
        """Give what is made of clusters."""
        extent, recipe = self.extent, self.recipe
        if recipe.leiden:
            seconds = self.rates.of("leiden") * extent.cells * min(extent.cells, MOST_NODES)
            yield StageForecast(stage="leiden", task_runs=1, passes=2, spread=seconds, read=2 * self.embedded)
        if recipe.markers:
            seconds = self.rates.of("markers") * extent.nonzeros
            yield StageForecast(stage="markers", task_runs=1, spread=seconds, read=self.normalized)
        if recipe.layout != "none":
            yield StageForecast(stage="map", task_runs=1, alone=self.rates.of("map"), read=self.embedded)
        if recipe.compared or recipe.batch_column or len(self.settings.cluster_numbers) > 1:
            seconds, passes = self._mixing()
            alone, read = self.rates.of("scores"), (1 + passes) * self.embedded
            yield StageForecast(stage="scores", task_runs=1, passes=1 + passes, spread=seconds, alone=alone, read=read)

    def _mixing(self) -> tuple[float, int]:
        """Give the seconds and the passes in which it is seen how batches are mixed."""
        if self.recipe.batch_column is None:
            return 0.0, 0
        passes = 1 if self.recipe.correction == "none" else 2
        return passes * self.rates.of("mixing") * self.extent.cells * self.settings.pca_dim, passes

    def export(self) -> Iterator[StageForecast]:
        """Give the tables and pictures, the report, and their way to the output."""
        cells = self.extent.cells
        yield StageForecast(
            stage="export",
            task_runs=1,
            spread=self.rates.of("csv") * cells,
            alone=self.rates.of("table") * cells + _PICTURES_SECONDS,
            read=self.embedded,
        )
        yield StageForecast(stage="report", task_runs=1, alone=_REPORT_SECONDS)
        yield StageForecast(stage="delivery", task_runs=1)

    @property
    def nonzeros(self) -> float:
        """Values of the matrix that is decomposed."""
        return self.extent.nonzeros * (self.rates.prepared if self.recipe.prepares_genes else 1.0)

    @property
    def prepared_bytes(self) -> float:
        """Bytes of its blocks."""
        stored = self.rates.stored["preparation" if self.recipe.prepares_genes else "normalization"]
        return self.nonzeros * stored

    @property
    def genes_left(self) -> int:
        """Columns of it."""
        return min(self.settings.n_top_genes, self.extent.genes) if self.recipe.genes != "all" else self.extent.genes

    def _each(self, stage: str, read: float, written: float) -> StageForecast:
        return self._task_each(stage, self.rates.of(stage) * self.extent.nonzeros, read, written)

    def _task_each(self, stage: str, seconds: float, read: float, written: float) -> StageForecast:
        partitions = self.extent.partitions
        batches = batch_sizes(partitions, self.extent.cells, self.settings.partition_cells)
        return StageForecast(
            stage=stage,
            task_runs=len(batches),
            spread=seconds,
            combined=_STEP_SECONDS * partitions,
            waits=self.rates.write_seconds * written,
            read=read,
            written=written,
        )

    def _svd(self) -> StageForecast:
        width = block_width(self.settings.pca_dim, self.settings.svd_max_passes)
        passes = svd_passes(self.settings, simulated=self.extent.simulated)
        every = passes + _WARM_UP
        blocks = self.extent.cells / self.settings.block_cells
        in_memory = 2 * _FLOAT * self.nonzeros
        missing = max(0.0, 1.0 - KEPT_BYTES / in_memory)
        reading = self.rates.of("reading") * self.nonzeros * (1.0 + (every - 1.0) * missing)
        panel = self.genes_left * width
        return StageForecast(
            stage="svd",
            task_runs=1,
            passes=every,
            spread=reading + self.rates.of("product") * self.nonzeros * width * every,
            combined=self.rates.of("sum") * blocks * panel * every,
            alone=self.rates.of("step") * panel * passes,
            read=self.prepared_bytes * (1.0 + (every - 1.0) * missing),
            written=_FLOAT * self.genes_left * self.settings.pca_dim,
        )

    def _kmeans(self, clusters: int) -> StageForecast:
        # At few clusters it is the columns that cost, at many the distances.
        share = max(1.0, clusters / max(self.rates.clusters, 30))
        passes = _LLOYD_PASSES + 2
        return StageForecast(
            stage="clustering",
            task_runs=1,
            passes=passes,
            spread=self.rates.of("clustering") * self.extent.cells * self.settings.pca_dim * share * passes,
            alone=self.rates.of("start") * clusters / self.rates.clusters,
            read=self.embedded * passes,
            written=self.extent.cells * (1.0 if clusters <= 256 else 2.0),
        )
