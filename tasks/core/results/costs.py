"""What the stages of a run cost, measured as they pass."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter

from tasks.core.base.memory import peak_memory, release_memory, reset_peak_memory
from tasks.core.storage.store import Reference


class StageCost(Reference):
    """What a stage of a run cost.

    Attributes:
        seconds: wall time from its first step to its last.
        cells_per_second: the run's cells over that time.
        peak_memory_bytes: most memory resident in this process during the stage.
        made: steps done in this run.
        cached: steps whose results an earlier run had left.
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
class Costs:
    """Measures the stages of a run as they pass.

    Attributes:
        environments: of all results, each once.
    """

    stages: list[StageCost] = field(default_factory=list)
    environments: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)
    cells: int = 0

    def restart(self, damage: str) -> None:
        """Begin anew, because an object of the store was damaged."""
        self.stages.clear()
        self.environments.clear()
        self.damaged.append(damage)

    @contextmanager
    def measure(self, stage: str) -> Iterator["Steps"]:
        """Measure one stage; the block counts its steps."""
        # What a stage has freed must not add to the next one's.
        release_memory()
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
                environments=self._places(steps.environments),
            )
        )

    def _places(self, environments: Collection[str]) -> tuple[int, ...]:
        self.environments += sorted(set(environments) - set(self.environments))
        return tuple(sorted(map(self.environments.index, environments)))


@dataclass
class Steps:
    """Steps of a stage so far."""

    made: int = 0
    cached: int = 0
    environments: set[str] = field(default_factory=set)

    def count(self, made: int, cached: int, environments: Collection[str]) -> None:
        """Count steps that were done in this run, and that were found from an earlier one; note what made either."""
        self.made += made
        self.cached += cached
        self.environments |= {*environments}
