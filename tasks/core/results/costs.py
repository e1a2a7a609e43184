"""What the stages of a run cost, measured as they pass."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock
from time import perf_counter
from typing import Any

from tasks.core.base.memory import peak_memory, release_memory, reset_peak_memory
from tasks.core.storage.store import Outcome, Reference


class StageCost(Reference):
    """What a stage of a run cost.

    Attributes:
        seconds: wall time in which it was at work; stages that are made partition by partition work at the same time.
        cells_per_second: the run's cells over that time.
        peak_memory_bytes: most memory resident in this process while it was at work, with what worked beside it.
        made: steps done in this run.
        cached: steps whose results were there already.
        environments: that made the results, now or then, by their place among the run's.
    """

    stage: str
    seconds: float
    cells_per_second: float
    peak_memory_bytes: int
    made: int
    cached: int
    environments: tuple[int, ...] = ()


@dataclass
class _Stage:
    """A stage so far."""

    at_work: int = 0
    began: float = 0.0
    seconds: float = 0.0
    peak: int = 0
    made: int = 0
    cached: int = 0
    environments: set[str] = field(default_factory=set)


class Costs:
    """Measures the stages of a run as they pass, whatever threads they are on.

    Attributes:
        cells: of the run.
        damaged: what of the store was, and was made again.
    """

    def __init__(self, damaged: Sequence[str] = ()) -> None:
        self.cells = 0
        self.damaged = tuple(damaged)
        self._stages: dict[str, _Stage] = {}
        self._lock = Lock()

    @contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        """Measure what a stage does in the block; it may do more at the same time."""
        of = self._begin(stage)
        try:
            yield
        finally:
            with self._lock:
                of.at_work -= 1
                of.seconds += 0.0 if of.at_work else perf_counter() - of.began
                of.peak = max(of.peak, peak_memory())

    def count(self, stage: str, outcomes: Iterable[Outcome[Any]]) -> None:
        """Count steps of a stage that are done, and note what made their results."""
        with self._lock:
            of = self._stages[stage]
            for outcome in outcomes:
                of.made += not outcome.cached
                of.cached += outcome.cached
                of.environments |= outcome.environments

    @property
    def environments(self) -> list[str]:
        """All that made the results, each once."""
        found: dict[str, None] = {}
        for of in self._stages.values():
            found |= dict.fromkeys(sorted(of.environments))
        return list(found)

    @property
    def stages(self) -> list[StageCost]:
        """Each stage that has done a step, in the order in which they began."""
        environments = self.environments
        return [
            StageCost(
                stage=name,
                seconds=round(of.seconds, 3),
                cells_per_second=round(self.cells / of.seconds, 1),
                peak_memory_bytes=of.peak,
                made=of.made,
                cached=of.cached,
                environments=tuple(sorted(map(environments.index, of.environments))),
            )
            for name, of in self._stages.items()
            if of.made + of.cached
        ]

    def _begin(self, stage: str) -> _Stage:
        with self._lock:
            if not any(of.at_work for of in self._stages.values()):
                # What an earlier stage has freed must not add to this one's.
                release_memory()
                reset_peak_memory()
            of = self._stages.setdefault(stage, _Stage())
            if not of.at_work:
                of.began = perf_counter()
            of.at_work += 1
            return of
