"""The flow on threads and on a Dask cluster of this machine: time, memory, and the same bytes."""

import hashlib
from pathlib import Path
from typing import Any

from tasks.core.dataset.synthetic import write_dataset
from tests.bench.commands import Commands
from tests.bench.report import Measured, Row, at_most, median

WORKERS = 2
ENGINES = ("threads", "dask")
_TABLES = ("embeddings.csv", "pca_variance.csv")


def measure(scratch: Path, cells: int, rounds: int) -> Measured:
    """Run each engine in turn, so that a busy moment of the machine meets all of them."""
    # Only now: Prefect reads its home when it is imported.
    from flows import server  # noqa: PLC0415

    commands = Commands(write_dataset(scratch / "dataset", cells, 42), cells, scratch)
    measured: Measured = {"cells": cells, "workers": WORKERS} | {engine: [] for engine in ENGINES}
    with server.chosen() as running:
        running.check()
        for _ in range(rounds):
            for engine in ENGINES:
                figures = commands.flow(running.url, engine=engine, workers=WORKERS)
                measured[engine].append(figures | {"sha256": _digests(scratch / "flow")})
                print(f"  {engine}: {figures['wall_seconds']:.1f} s", flush=True)
    return measured


def promises(measured: Measured) -> list[Row]:
    """What the project promises of engines, and their times and memory."""
    at = f"{measured['cells']:,} cells, {measured['workers']} workers"
    digests = {str(figures["sha256"]) for engine in ENGINES for figures in measured[engine]}
    threads = median(measured["threads"], "wall_seconds")
    same = len(digests) == 1
    rows = [Row(f"tables of all engines, {at}", "the same" if same else "differ", "the same", same)]
    for engine in ENGINES[1:]:
        more = (median(measured[engine], "wall_seconds") / threads - 1) * 100
        rows.append(at_most(f"{engine}: time, more than on threads ({threads:.0f} s)", more, "%", 15))
        peak = median(measured[engine], "peak_child_bytes") / 1e9
        rows.append(at_most(f"{engine}: peak memory of a worker", peak, "GB", 1.0))
    return rows


def _digests(output: Path) -> dict[str, Any]:
    return {name: hashlib.sha256((output / name).read_bytes()).hexdigest() for name in _TABLES}
