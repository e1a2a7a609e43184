"""What a calibration measures with, and what it measures: some simulated cells as the stages leave them.

It is the time that a core works, which neighbours on the same machine disturb little.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TypeVar

from tasks.core.base.memory import peak_memory, release_memory, reset_peak_memory
from tasks.core.base.progress import Progress, report
from tasks.core.base.settings import Settings
from tasks.core.references.cells import Cells, Counts, GeneOrder, Normalized, Plan
from tasks.core.storage.store import Store

R = TypeVar("R")


@dataclass
class Timer:
    """Times steps of one core.

    Attributes:
        seconds: of each step, a unit of its work.
        memory: most bytes that a step held beside what was there before.
        enough: seconds that a step is repeated for, unless it is timed once.
    """

    enough: float
    seconds: dict[str, float] = field(default_factory=dict)
    memory: dict[str, float] = field(default_factory=dict)

    def run(self, step: str, units: float, function: Callable[[], R]) -> R:
        """Call a function until enough seconds have passed, and note its time for each unit; give what it gave last.

        Of all times it is the lower quartile: what neighbours take from a core's memory and caches only adds.
        """
        report(Progress("calibration", "step", len(self.seconds) + 1, note=step))
        release_memory()
        reset_peak_memory()
        before = peak_memory()
        taken: list[float] = []
        until = time.monotonic() + self.enough
        while not taken or time.monotonic() < until:
            began = time.process_time()
            result = function()
            taken.append(time.process_time() - began)
        self.seconds[step] = sorted(taken)[len(taken) // 4] / units
        self.memory[step] = float(peak_memory() - before)
        return result

    def once(self, step: str, units: float, function: Callable[[], R]) -> R:
        """Time a function that takes long, or whose result is found again, as it is called once."""
        once = replace(self, enough=0.0)
        return once.run(step, units, function)


@dataclass(frozen=True)
class Sample:
    """Simulated cells as the stages leave them, in one partition.

    Attributes:
        settings: of the run that is forecast, but for its cells and where they go.
    """

    settings: Settings
    store: Store
    plan: Plan
    cells: Cells
    counts: Counts
    order: GeneOrder
    normalized: Normalized


def anew(store: Store, stage: str, make: Callable[[], R]) -> Callable[[], R]:
    """Give what makes a stage's result although the store may hold it."""

    def remade() -> R:
        for entry in list(store.files.walk(stage)):
            store.files.remove(entry.path)
        return make()

    return remade
