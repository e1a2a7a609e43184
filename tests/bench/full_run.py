"""The full run, simulated: all of Tahoe-100M's shards and cells through the real flow, the kernels but stand-ins.

    python -m tests.bench.full_run [--shards 3388] [--faster 0]

Prints what the orchestration takes: time, memory, the Prefect server and its database, the store.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.bench.measure import ROOT, tree
from tests.bench.report import Measured, Row, table
from tests.bench.stand_ins import SECONDS_A_CELL, SHARD_ROWS, SHARES, write_cells
from tests.prefect_server import PrefectServer

SHARDS, CELLS, WORKERS = 3_388, 95_624_334, 16
_INSIDE = "tests.bench.full_run_inside"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--shards", type=int, default=SHARDS, help="of 28,225 cells each")
    options.add_argument("--faster", type=float, default=0.0, help="kernels take their time over this; 0: none")
    options.add_argument("--engine", nargs="*", default=[], help="further settings of the run, as name=value")
    options.add_argument("--folder", type=Path, help="for all that is written; by default a temporary one")
    options.add_argument("--output", type=Path, help="where the measurements go, as JSON")
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory(dir=chosen.folder) as scratch:
        measured = measure(Path(scratch), chosen.shards, chosen.faster, dict(word.split("=") for word in chosen.engine))
    if chosen.output:
        chosen.output.write_text(json.dumps(measured, indent=1))
    print(render(measured))


def measure(scratch: Path, shards: int, faster: float, engine: dict[str, str]) -> Measured:
    """Run it once to make everything and once to find everything, against a server of its own."""
    cells = CELLS if shards == SHARDS else shards * SHARD_ROWS
    dataset = write_cells(scratch / "dataset", shards, cells)
    asked: dict[str, Any] = {"dataset": str(dataset), "samples": "all", "workers": WORKERS, **engine}
    asked |= {"store": str(scratch / "store"), "output": str(scratch / "output")}
    (scratch / "server").mkdir()
    server = PrefectServer(scratch / "server")
    with server.client, server.up() as process:
        before = tree(process.pid)
        words = [sys.executable, "-m", _INSIDE, json.dumps(asked), str(faster)]
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
        "faster": faster,
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
    peak = measured["peak_bytes"] / 1e9
    made = measured["runs"]["made"]
    compute = measured["compute_core_seconds"]
    ideal = compute * sum(SHARES.values()) / WORKERS / measured["faster"] if measured["faster"] else 0.0
    wall = 100 * (made["wall_seconds"] - ideal) / (compute / WORKERS)
    cpu = 100 * (made["cpu_seconds"] + measured["server_cpu_seconds"] / 2) / compute
    return [
        Row("flow process, most memory", f"{peak:.2f} GB", "at most 1", peak <= 1),
        Row("orchestration, CPU of flow and server over that of the kernels", f"{cpu:.2f} %", "at most 3", cpu <= 3),
        Row(f"time that it adds to that of {WORKERS} workers", f"{wall:.2f} %", "at most 3", wall <= 3),
    ]


def render(measured: Measured) -> str:
    """Everything as text."""
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
    rows = [[row.what, row.measured, row.promised, "kept" if row.kept else "NOT KEPT"] for row in promises(measured)]
    return "\n".join(
        [
            f"{head}; {WORKERS} workers on {len(os.sched_getaffinity(0))} cores; kernels are stand-ins",
            "",
            *table(["what", "measured", "promised", ""], rows),
            "",
            *table(["what", "measured"], [list(row) for row in figures]),
            "",
            *table(["stage", "made, s", "found, s", "peak MB"], of_stages),
        ]
    )


if __name__ == "__main__":
    main()
