"""How well streaming and computing go on beside each other: `python -m tests.bench.overlap`.

A run whose source gives so many bytes a second is timed against its streaming alone and its computing alone, each as a
command with a temporary Prefect server. What can be done meanwhile are counts and normalization: the SVD waits for the
last cell.
"""

import argparse
import json
import os
import shutil
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from prefect import flow, unmapped

from flows.carry_out import AT_ONCE
from tasks.core.base.settings import Settings
from tasks.core.dataset.synthetic import write_dataset
from tasks.core.results.costs import Costs
from tasks.planning import plan_partitions
from tasks.stage import Limits, limited
from tasks.streaming import stream_cells
from tests.bench.measure import ROOT, run
from tests.hub_server import HubServer

_STREAM = "stream"


class SlowHub(HubServer):
    """Gives all who ask together so many bytes a second."""

    def __init__(self, folder: Path, bytes_per_second: float) -> None:
        super().__init__(folder)
        self._rate, self._free, self._lock = bytes_per_second, 0.0, threading.Lock()

    def cut(self, size: int) -> int:
        """Wait for as long as the bytes before these and these take."""
        with self._lock:
            self._free = max(self._free, time.monotonic()) + size / self._rate
            until = self._free
        time.sleep(max(until - time.monotonic(), 0.0))
        return size


@flow(task_runner=AT_ONCE)
def stream_all(store: str, cells: int) -> None:
    """Stream what a run would, and do nothing with it."""
    settings = Settings(samples=cells, store=store)
    with limited(Limits(Costs(), settings.threads)):
        plan = plan_partitions(settings)
        stream_cells.map(plan.partitions, unmapped(plan.vocabulary), unmapped(settings)).result()


def main() -> None:
    """Measure, and print the medians and their ratio."""
    if sys.argv[1:2] == [_STREAM]:
        stream_all(sys.argv[2], int(sys.argv[3]))
        return
    parser = argparse.ArgumentParser(prog="python -m tests.bench.overlap", description=__doc__)
    parser.add_argument("--cells", type=int, default=60_000)
    parser.add_argument("--rate", type=float, default=20.0, help="MB a second")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    with TemporaryDirectory() as place:
        folder = Path(place)
        write_dataset(folder / "dataset", given.cells, 0)
        with SlowHub(folder / "dataset", given.rate * 1e6) as hub:
            environment = os.environ | hub.environment(folder / "home")
            rounds = [_measure(folder / f"round{at}", environment, given.cells) for at in range(given.rounds)]
    told = {name: round(median(one[name] for one in rounds), 1) for name in rounds[0]}
    told["ratio"] = round(median(one["run"] / max(one["streaming"], one["computing"]) for one in rounds), 3)
    print(json.dumps(told))


def _measure(folder: Path, environment: Mapping[str, str], cells: int) -> dict[str, float]:
    folder.mkdir()
    command = [sys.executable, str(ROOT / "flows" / "run.py"), "--samples", str(cells)]
    places = [[f"--{name}={folder / f'{name}-{of}'}" for name in ("store", "output")] for of in ("run", "computing")]
    took = {"run": run([*command, *places[0]], environment, folder).wall_seconds}
    alone = [sys.executable, "-m", "tests.bench.overlap", _STREAM, str(folder / "store-computing"), str(cells)]
    took["streaming"] = run(alone, environment, folder).wall_seconds
    took["computing"] = run([*command, *places[1]], environment, folder).wall_seconds
    shutil.rmtree(folder)
    return took


if __name__ == "__main__":
    main()
