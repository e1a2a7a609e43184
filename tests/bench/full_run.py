"""The full run, simulated: all of Tahoe-100M's shards and cells through the real flow, the kernels but stand-ins.

    python -m tests.bench.full_run [--shards 3388] [--output full_run.json]

Once over all shards with kernels that take no time, for the CPU, the memory, the Prefect server and its database, and
the store; then over a tenth of them with kernels that take theirs, asleep, for the time that orchestration adds to 16
workers. Takes a quarter of an hour or so.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from tests.bench.measure import ROOT, tree
from tests.bench.report import Measured, Row, table
from tests.bench.stand_ins import SECONDS_A_CELL, SHARD_ROWS, write_cells
from tests.prefect_server import PrefectServer

SHARDS, CELLS, WORKERS = 3_388, 95_624_334, 16
_NONE: Mapping[str, str] = MappingProxyType({})
_INSIDE = "tests.bench.full_run_inside"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--shards", type=int, default=SHARDS, help="of 28,225 cells each")
    options.add_argument("--engine", nargs="*", default=[], help="further settings of the run, as name=value")
    options.add_argument("--folder", type=Path, help="for all that is written; by default a temporary one")
    options.add_argument("--output", type=Path, help="where the measurements go, as JSON")
    chosen = options.parse_args()
    measured = measure(chosen.shards, dict(word.split("=") for word in chosen.engine), chosen.folder)
    if chosen.output:
        chosen.output.write_text(json.dumps(measured, indent=1))
    print(render(measured))


def measure(shards: int = SHARDS, engine: Mapping[str, str] = _NONE, folder: Path | None = None) -> Measured:
    """Simulate all shards without the kernels' time, and a tenth of them with it."""
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        return {
            "whole": _simulate(Path(scratch) / "whole", shards, 0.0, engine),
            "tenth": _simulate(Path(scratch) / "tenth", -(-shards // 10), 1.0, engine),
        }


def _simulate(scratch: Path, shards: int, pace: float, engine: Mapping[str, str]) -> Measured:
    """Run it once to make everything and once to find everything, against a server of its own."""
    cells = CELLS if shards == SHARDS else shards * SHARD_ROWS
    dataset = write_cells(scratch / "dataset", shards, cells)
    asked: dict[str, Any] = {"dataset": str(dataset), "samples": "all", "workers": WORKERS, **engine}
    asked |= {"store": str(scratch / "store"), "output": str(scratch / "output")}
    (scratch / "server").mkdir(parents=True)
    server = PrefectServer(scratch / "server")
    with server.client, server.up() as process:
        before = tree(process.pid)
        words = [sys.executable, "-m", _INSIDE, json.dumps(asked), str(pace)]
        environment = server.environment | {"PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL"}
        ran = subprocess.run(words, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True)
        task_runs = _all_task_runs(server)
        after = tree(process.pid)
        figures: Measured = json.loads(ran.stdout.splitlines()[-1])
    return figures | {
        "shards": shards,
        "cells": cells,
        "task_runs": task_runs,
        "server_cpu_seconds": after.cpu_seconds - before.cpu_seconds,
        "server_bytes": after.resident,
        "database_bytes": sum(path.stat().st_size for path in server.home.glob("prefect.db*")),
        "compute_core_seconds": cells * SECONDS_A_CELL,
    }


def _all_task_runs(server: PrefectServer) -> int:
    """Count them once the server, which hears of them as events, has written them all."""
    before = -1
    while (now := int(server.ask("POST", "task_runs/count", {}))) != before:
        before = now
        time.sleep(5)
    return now


def promises(measured: Measured) -> list[Row]:
    """Give what is promised of the orchestration."""
    whole, tenth = measured["whole"], measured["tenth"]
    peak = whole["peak_bytes"] / 1e9
    used = whole["runs"]["made"]["cpu_seconds"] + whole["server_cpu_seconds"] / 2
    cpu = 100 * used / whole["compute_core_seconds"]
    wall = 100 * (tenth["runs"]["made"]["wall_seconds"] / tenth["plain_seconds"] - 1)
    return [
        Row("flow process, most memory", f"{peak:.2f} GB", "at most 1", peak <= 1),
        Row("CPU of flow and server, beside that of the kernels", f"{cpu:.2f} %", "at most 3", cpu <= 3),
        Row(
            f"time of {WORKERS} workers, beside that of the stages without Prefect",
            f"{wall:.2f} %",
            "at most 3",
            wall <= 3,
        ),
    ]


def render(measured: Measured) -> str:
    """Everything as text."""
    rows = [[row.what, row.measured, row.promised, "kept" if row.kept else "NOT KEPT"] for row in promises(measured)]
    return "\n".join([*table(["what", "measured", "promised", ""], rows), "", *_details(measured["whole"])])


def _details(measured: Measured) -> list[str]:
    made, found = measured["runs"]["made"], measured["runs"]["found"]
    figures = [
        ("task runs of both runs", f"{measured['task_runs']:,}"),
        ("wall, all made / all found", f"{made['wall_seconds']:.1f} s / {found['wall_seconds']:.1f} s"),
        ("CPU of the flow process, the same", f"{made['cpu_seconds']:.1f} s / {found['cpu_seconds']:.1f} s"),
        ("CPU of the server, both", f"{measured['server_cpu_seconds']:.1f} s"),
        ("memory of the server", f"{measured['server_bytes'] / 1e6:.0f} MB"),
        ("its database", f"{measured['database_bytes'] / 1e6:.1f} MB"),
        ("run.json", f"{measured['record_bytes'] / 1e3:.0f} kB"),
        ("mark of the run", f"{measured['mark_bytes'] / 1e6:.2f} MB"),
        ("files in the store", f"{measured['files']:,}"),
        *((f"store: {what}", f"{seconds:.1f} s") for what, seconds in measured["store_seconds"].items()),
    ]
    of_stages = [
        [name, f"{seconds:.1f}", f"{found['stages'][name]:.1f}", f"{made['peaks'][name] / 1e6:.0f}"]
        for name, seconds in made["stages"].items()
    ]
    head = f"{measured['shards']:,} shards, {measured['cells']:,} cells, {measured['partitions']:,} partitions"
    return [
        f"{head}; {WORKERS} workers on {len(os.sched_getaffinity(0))} cores; kernels are stand-ins",
        "",
        *table(["what", "measured"], [list(row) for row in figures]),
        "",
        *table(["stage", "made, s", "found, s", "peak MB"], of_stages),
    ]


if __name__ == "__main__":
    main()
