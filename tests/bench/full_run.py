"""The full run, simulated: all of Tahoe-100M's shards and cells through the real flow, the kernels but stand-ins.

    python -m tests.bench.full_run [--shards 3388] [--pace 1] [--output full_run.json]

The flow runs twice, once to make everything and once to find everything, on a real Dask cluster of 16 thin workers and
against a Prefect server of its own. Stand-ins sleep for as long as their kernels would compute, and what travels has
its real size. So what the run takes beyond the kernels' time, shared among 16 workers, is what it takes to have them
work together. Takes some forty minutes.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

from tests.bench.measure import ROOT, tree
from tests.bench.report import Measured, Row, table
from tests.bench.stand_ins import SECONDS_A_CELL, SHARD_ROWS, SHARES, write_cells
from tests.dask_cluster import DaskCluster, dask_cluster
from tests.prefect_server import PrefectServer

SHARDS, CELLS, WORKERS = 3_388, 95_624_334, 16
_NONE: Mapping[str, str] = MappingProxyType({})
_INSIDE = "tests.bench.full_run_inside"
# What the workers import before there is a run, as they would each on a core of its own: here they share two.
_IMPORTED = "tasks.core.dataset.partition_steps"
_JOINED_SECONDS = 300


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--shards", type=int, default=SHARDS, help="of 28,225 cells each")
    options.add_argument("--pace", type=float, default=1.0, help="of the kernels' time, what stand-ins sleep")
    options.add_argument("--settings", nargs="*", default=[], help="further ones of the run, as name=value")
    options.add_argument("--folder", type=Path, help="for all that is written; by default a temporary one")
    options.add_argument("--output", type=Path, help="where the measurements go, as JSON")
    chosen = options.parse_args()
    further = dict(word.split("=") for word in chosen.settings)
    measured = measure(chosen.shards, chosen.pace, further, chosen.folder)
    if chosen.output:
        chosen.output.write_text(json.dumps(measured, indent=1))
    print(render(measured))


def measure(
    shards: int = SHARDS, pace: float = 1.0, further: Mapping[str, str] = _NONE, folder: Path | None = None
) -> Measured:
    """Run it once to make everything and once to find everything."""
    cells = CELLS if shards == SHARDS else shards * SHARD_ROWS
    with tempfile.TemporaryDirectory(dir=folder) as name, _cluster(Path(name) / "cluster") as cluster:
        scratch = Path(name)
        dataset = write_cells(scratch / "dataset", shards, cells)
        asked: dict[str, Any] = {"dataset": str(dataset), "samples": "all", "workers": WORKERS}
        asked |= {"engine": "dask", "dask_address": cluster.address}
        asked |= {"store": str(scratch / "store"), "output": str(scratch / "output"), **further}
        (scratch / "server").mkdir()
        server = PrefectServer(scratch / "server")
        with server.client, server.up() as process:
            others = {"server": [process.pid], "scheduler": [cluster.scheduler.pid]}
            others["workers"] = [worker.pid for worker in cluster.workers]
            runs = {run: _run(server, others, asked, pace, run) for run in ("made", "found")}
            task_runs = _all_task_runs(server)
            database = sum(path.stat().st_size for path in server.home.glob("prefect.db*"))
    return {
        "shards": shards,
        "cells": cells,
        "pace": pace,
        "runs": runs,
        "task_runs": task_runs,
        "database_bytes": database,
        "compute_core_seconds": cells * SECONDS_A_CELL,
        "kernel_core_seconds": cells * SECONDS_A_CELL * sum(SHARES.values()),
    }


@contextmanager
def _cluster(folder: Path) -> Iterator[DaskCluster]:
    from distributed import Client  # noqa: PLC0415  (an extra)

    with dask_cluster(folder) as cluster:
        cluster.add_workers(WORKERS, "--no-nanny", "--preload", _IMPORTED)
        with Client(cluster.address) as client:  # type: ignore[no-untyped-call]  # Dask is typed in parts
            client.wait_for_workers(WORKERS, timeout=_JOINED_SECONDS)
        yield cluster


def _run(
    server: PrefectServer, others: Mapping[str, list[int]], asked: dict[str, Any], pace: float, run: str
) -> Measured:
    before = _cpu(others)
    environment = server.environment | {"PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL"}
    words = [sys.executable, "-m", _INSIDE, json.dumps(asked), str(pace), run]
    ran = subprocess.run(words, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    figures: Measured = json.loads(ran.stdout.splitlines()[-1])
    figures["cpu_seconds"] = {"flow": figures["cpu_seconds"]}
    figures["cpu_seconds"] |= {who: seconds - before[who] for who, seconds in _cpu(others).items()}
    memory = {who: max(tree(process).resident for process in processes) for who, processes in others.items()}
    return figures | {"resident_bytes": memory}


def _cpu(others: Mapping[str, list[int]]) -> dict[str, float]:
    return {who: sum(tree(process).cpu_seconds for process in processes) for who, processes in others.items()}


def _all_task_runs(server: PrefectServer) -> int:
    """Count them once the server, which hears of them as events, has written them all."""
    before = -1
    while (now := int(server.ask("POST", "task_runs/count", {}))) != before:
        before = now
        time.sleep(5)
    return now


def promises(measured: Measured) -> list[Row]:
    """Give what is promised of the orchestration."""
    made = measured["runs"]["made"]
    peak = made["peak_bytes"] / 1e9
    # Of the workers' CPU, listed beside, much is what stand-ins write, as their kernels do in the time they are given.
    used = sum(seconds for who, seconds in made["cpu_seconds"].items() if who != "workers")
    cpu = 100 * used / measured["compute_core_seconds"]
    ideal = measured["kernel_core_seconds"] * measured["pace"] / WORKERS
    over = made["wall_seconds"] - ideal
    wall = 100 * over / (measured["compute_core_seconds"] * measured["pace"] / WORKERS)
    return [
        Row("flow process, most memory", f"{peak:.2f} GB", "at most 1", peak <= 1),
        Row(
            "CPU of flow, scheduler and Prefect server, beside that of the kernels",
            f"{cpu:.2f} %",
            "at most 3",
            cpu <= 3,
        ),
        Row(
            f"time, more than the kernels' on {WORKERS} workers ({ideal:,.0f} s)",
            f"{wall:.2f} % ({over:.0f} s)",
            "at most 3",
            wall <= 3,
        ),
    ]


def render(measured: Measured) -> str:
    """Everything as text."""
    rows = [[row.what, row.measured, row.promised, "kept" if row.kept else "NOT KEPT"] for row in promises(measured)]
    return "\n".join([*table(["what", "measured", "promised", ""], rows), "", *_details(measured)])


def _details(measured: Measured) -> list[str]:
    made, found = measured["runs"]["made"], measured["runs"]["found"]
    runs = made, found
    figures = [
        ("task runs, both runs", f"{measured['task_runs']:,}"),
        ("Prefect's database, after both", f"{measured['database_bytes'] / 1e6:.1f} MB"),
        ("wall, all made / all found", " / ".join(f"{run['wall_seconds']:.0f} s" for run in runs)),
        *(
            (f"CPU of {who}, the same", " / ".join(f"{run['cpu_seconds'][who]:.0f} s" for run in runs))
            for who in made["cpu_seconds"]
        ),
        *((f"memory of {who}", f"{size / 1e6:.0f} MB") for who, size in made["resident_bytes"].items()),
        ("run.json", f"{found['record_bytes'] / 1e3:.0f} kB"),
        ("mark of the run", f"{found['mark_bytes'] / 1e6:.2f} MB"),
        ("files in the store", f"{found['files']:,}"),
        *((f"store: {what}", f"{seconds:.1f} s") for what, seconds in found["store_seconds"].items()),
    ]
    of_stages = [
        [name, f"{seconds:.1f}", f"{_ideal(measured, name):.1f}", f"{found['stages'][name]:.1f}"]
        for name, seconds in made["stages"].items()
    ]
    head = f"{measured['shards']:,} shards, {measured['cells']:,} cells, {found['partitions']:,} partitions"
    return [
        f"{head}; {WORKERS} workers on {len(os.sched_getaffinity(0))} cores; kernels are stand-ins",
        "",
        *table(["what", "measured"], [list(row) for row in figures]),
        "",
        *table(["stage", "made, s", "of that the kernels, s", "found, s"], of_stages),
    ]


def _ideal(measured: Measured, stage: str) -> float:
    return float(measured["compute_core_seconds"] * SHARES.get(stage, 0.0) * measured["pace"] / WORKERS)


if __name__ == "__main__":
    main()
