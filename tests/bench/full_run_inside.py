"""The flow's side of the simulated full run, a process of its own: settings as JSON, a pace, `made` or `found`."""

import json
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flows.cluster_cells import cluster_cells
from flows.parameters import parameters_of
from tasks.core.base.settings import Settings
from tasks.core.results import housekeeping
from tasks.core.results.record import RECORD, RunRecord, read_record
from tasks.core.storage.runs import RUNS
from tasks.core.storage.store import output_of, store_of
from tests.bench.measure import resident
from tests.bench.stand_ins import StandIns


def main() -> None:
    """Run the flow; where all was found, look after its store as well; print what it took."""
    settings = Settings.model_validate(json.loads(sys.argv[1]))
    peak = _Peak()
    with StandIns(settings, float(sys.argv[2])).in_place():
        figures = _run(settings)
    figures["peak_bytes"] = peak.end()
    if sys.argv[3] == "found":
        figures |= _look_after(settings)
    print(json.dumps(figures))


def _run(settings: Settings) -> dict[str, Any]:
    wall, cpu = time.perf_counter(), time.process_time()
    cluster_cells(**parameters_of(settings))
    record = read_record(output_of(settings), RunRecord)
    return {
        "wall_seconds": time.perf_counter() - wall,
        "cpu_seconds": time.process_time() - cpu,
        "stages": {cost.stage: cost.seconds for cost in record.stages},
        "counts": {cost.stage: [cost.made, cost.cached] for cost in record.stages},
    }


def _look_after(settings: Settings) -> dict[str, Any]:
    output, store = output_of(settings), store_of(settings)
    marks = list(store.files.walk(RUNS))
    without, run = settings.model_copy(update={"keep_intermediates": "none"}), Path(marks[-1].path).stem
    figures: dict[str, Any] = {
        "partitions": json.loads(output.files.read(RECORD) or b"")["read"]["partitions"],
        "record_bytes": output.files.size(RECORD),
        "mark_bytes": max(entry.size for entry in marks),
        "files": sum(1 for _ in store.files.walk()),
    }
    for entry in marks[:-1]:
        # Else the results are another run's as well.
        store.files.remove(entry.path)
    return figures | {
        "store_seconds": {
            "ls": _time(lambda: housekeeping.by_run(store, housekeeping.survey(store))),
            "prune, to see": _time(lambda: housekeeping.prunable(store, housekeeping.survey(store), 1.0)),
            "removal of all intermediates": _time(lambda: housekeeping.keep_only(without, run)),
        }
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
