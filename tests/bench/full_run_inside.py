"""The flow's side of the simulated full run, a process of its own; its arguments are settings as JSON, and a pace."""

import json
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flows.cluster_cells import cluster_cells
from tasks.core.base.settings import Settings
from tasks.core.results import housekeeping
from tasks.core.results.record import RECORD
from tasks.core.storage.runs import RUNS
from tasks.core.storage.store import output_of, store_of
from tests.bench import core_steps
from tests.bench.measure import resident
from tests.bench.stand_ins import StandIns


def main() -> None:
    """Run the flow twice, its stages without it where they take time, look after its store; print what it took."""
    settings = Settings.model_validate(json.loads(sys.argv[1]))
    peak, pace = _Peak(), float(sys.argv[2])
    with StandIns(settings, pace).in_place():
        runs = {name: _run(settings) for name in ("made", "found")}
        plain = _time(lambda: core_steps.run(_elsewhere(settings))) if pace else None
    output, store = output_of(settings), store_of(settings)
    marks = list(store.files.walk(RUNS))
    print(
        json.dumps(
            {
                "runs": runs,
                "plain_seconds": plain,
                "peak_bytes": peak.end(),
                "partitions": json.loads(output.files.read(RECORD) or b"")["read"]["partitions"],
                "record_bytes": output.files.size(RECORD),
                "mark_bytes": max(entry.size for entry in marks),
                "files": sum(1 for _ in store.files.walk()),
                "store_seconds": _look_after(settings, Path(marks[-1].path).stem),
            }
        )
    )


def _run(settings: Settings) -> dict[str, Any]:
    wall, cpu = time.perf_counter(), time.process_time()
    record = cluster_cells(**settings.model_dump())
    return {
        "wall_seconds": time.perf_counter() - wall,
        "cpu_seconds": time.process_time() - cpu,
        "stages": {cost.stage: cost.seconds for cost in record.stages},
        "peaks": {cost.stage: cost.peak_memory_bytes for cost in record.stages},
        "counts": {cost.stage: [cost.made, cost.cached] for cost in record.stages},
    }


def _elsewhere(settings: Settings) -> Settings:
    return settings.model_copy(update={"store": f"{settings.store}-plain", "output": f"{settings.output}-plain"})


def _look_after(settings: Settings, run: str) -> dict[str, float]:
    store, without = store_of(settings), settings.model_copy(update={"keep_intermediates": "none"})
    for entry in list(store.files.walk(RUNS)):
        # Else the results are another run's as well.
        if Path(entry.path).stem != run:
            store.files.remove(entry.path)
    return {
        "ls by stage": _time(lambda: housekeeping.by_stage(store)),
        "ls by run": _time(lambda: housekeeping.by_run(store)),
        "prune, to see": _time(lambda: housekeeping.prunable(store, 1.0)),
        "removal of all intermediates": _time(lambda: housekeeping.keep_only(without, run)),
    }


def _time(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


class _Peak:
    """Watches the memory of this process; the system's own mark is begun anew by each stage."""

    def __init__(self) -> None:
        self._most = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._ended.wait(0.1):
            self._most = max(self._most, resident("self"))

    def end(self) -> int:
        """Give the most bytes that were resident."""
        self._ended.set()
        self._thread.join()
        return self._most


if __name__ == "__main__":
    main()
