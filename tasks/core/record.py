"""The record of a run, `run.json`: what was asked for, what was read, what it cost and what came out."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from platform import python_version
from time import perf_counter
from typing import Any

from tasks.core.memory import peak_memory, reset_peak_memory
from tasks.core.references import (
    Cells,
    Clustering,
    Counts,
    Embedding,
    GeneOrder,
    Model,
    Normalized,
    Output,
    Plan,
    Skipped,
)
from tasks.core.results import component_table
from tasks.core.series import Continuation, SeriesRun
from tasks.core.settings import Settings
from tasks.core.store import Reference, Store

RECORD = "run.json"
# The packages whose code decides the numbers, and the one that runs the stages.
_PACKAGES = ("numpy", "scipy", "scikit-learn", "pyarrow", "polars", "datasets", "prefect")


class StageCost(Reference):
    """What a stage of a run cost.

    Attributes:
        seconds: wall time from its first step to its last.
        cells_per_second: the run's cells over that time.
        peak_memory_bytes: most memory resident in this process during the stage.
        made: steps done in this run.
        cached: steps whose results an earlier run had left.
    """

    stage: str
    seconds: float
    cells_per_second: float
    peak_memory_bytes: int
    made: int
    cached: int


class RunRecord(Reference):
    """All that is known of a finished run."""

    settings: dict[str, Any]
    dataset: dict[str, Any]
    versions: dict[str, str]
    read: dict[str, int]
    skipped: dict[str, str]
    bad_data: tuple[Skipped, ...]
    damaged: tuple[str, ...]
    svd: dict[str, Any]
    clustering: dict[str, Any]
    series: dict[str, Any] | None
    stages: tuple[StageCost, ...]
    outputs: tuple[Output, ...]


@dataclass
class Costs:
    """Measures the stages of a run as they pass."""

    stages: list[StageCost] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)
    cells: int = 0

    def restart(self, damage: str) -> None:
        """Begin anew, because an object of the store was damaged."""
        self.stages.clear()
        self.damaged.append(damage)

    @contextmanager
    def measure(self, stage: str) -> Iterator["Steps"]:
        """Measure one stage; the block counts its steps."""
        reset_peak_memory()
        steps, began = Steps(), perf_counter()
        yield steps
        seconds = perf_counter() - began
        self.stages.append(
            StageCost(
                stage=stage,
                seconds=round(seconds, 3),
                cells_per_second=round(self.cells / seconds, 1),
                peak_memory_bytes=peak_memory(),
                made=steps.made,
                cached=steps.cached,
            )
        )


@dataclass
class Steps:
    """Steps of a stage so far."""

    made: int = 0
    cached: int = 0

    def count(self, *, cached: bool) -> None:
        """Count a step as done in this run or found from an earlier one."""
        if cached:
            self.cached += 1
        else:
            self.made += 1


@dataclass(frozen=True)
class Findings:
    """What the stages of a run returned."""

    plan: Plan
    cells: list[Cells]
    counts: list[Counts]
    order: GeneOrder
    normalized: list[Normalized]
    model: Model
    embeddings: list[Embedding]
    clustering: Clustering
    outputs: tuple[Output, ...]
    skipped: tuple[Skipped, ...]
    place: Continuation
    entry: SeriesRun | None


def make_record(settings: Settings, found: Findings, costs: Costs) -> RunRecord:
    """Put together what `run.json` says."""
    return RunRecord(
        settings=settings.model_dump(mode="json"),
        dataset=_describe_dataset(settings, found),
        versions={"python": python_version()} | {name: version(name) for name in _PACKAGES},
        read={
            "cells": sum(part.cells for part in found.cells),
            "skipped_cells": sum(bad.rows for bad in found.skipped),
            "nonzeros": sum(part.nonzeros for part in found.counts),
            "partitions": len(found.plan.partitions),
            "genes": found.plan.vocabulary.genes,
            "empty_cells": sum(part.empty_cells for part in found.counts),
            "repeated_pairs_summed": sum(part.repeated_pairs for part in found.counts),
        },
        skipped={f"column {name}": reason for name, reason in found.plan.left_out.items()},
        bad_data=found.skipped,
        damaged=tuple(costs.damaged),
        svd=_describe_model(found.model),
        clustering=found.clustering.model_dump(include={"names", "sizes", "inertia", "passes", "settled"}),
        series=_describe_series(found),
        stages=tuple(costs.stages),
        outputs=found.outputs,
    )


def write_record(output: Store, record: RunRecord) -> None:
    """Write `run.json`, after all other results."""
    output.put(RECORD, record.model_dump_json(indent=2).encode())


def _describe_dataset(settings: Settings, found: Findings) -> dict[str, Any]:
    return {
        "name": settings.dataset,
        "revision": found.plan.revision,
        "simulated": settings.is_synthetic,
        "cells_asked_for": settings.samples,
        "cells_read": sum(part.cells for part in found.cells),
        "ended_early": found.plan.exhausted,
    }


def _describe_series(found: Findings) -> dict[str, Any] | None:
    if found.entry is None:
        return None
    of_entry = found.entry.model_dump(mode="json", include={"series", "number", "run", "drift"})
    return of_entry | {"note": found.place.note, "unchanged": found.place.unchanged}


def _describe_model(model: Model) -> dict[str, Any]:
    return {
        "passes": model.passes,
        "rank": model.rank,
        "settled": all(model.settled),
        "shortcomings": model.shortcomings,
        "components": component_table(model).to_dicts(),
    }
