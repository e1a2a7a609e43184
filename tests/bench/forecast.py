"""The plan of a run against the run itself: how right its times and bytes are.

    python -m tests.bench.forecast [--cells 200000] [--dataset FOLDER] [--rounds 1]

Plan and run are taken in turn; on a machine that others use as well, what they take from the run is no fault of the
plan, so the work of the cores is compared beside the time.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tasks.core.base.settings import Settings
from tasks.core.dataset.landing import land_cells
from tasks.core.dataset.plan import make_plan
from tasks.core.dataset.synthetic import write_dataset
from tasks.core.forecast.forecast import Forecast
from tests.bench.alone import CLUSTERS, COMPONENTS
from tests.bench.commands import Commands
from tests.bench.measure import run
from tests.bench.report import Row

Figures = dict[str, Any]
# Of the time that it takes, and of bytes.
_PROMISED = {"time": 0.30, "bytes": 0.15}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--cells", type=int, default=200_000)
    options.add_argument("--dataset", type=Path, help="a folder of simulated cells; made if it is not given")
    options.add_argument("--rounds", type=int, default=1)
    options.add_argument("--output", type=Path, help="where the figures go as JSON")
    options.add_argument("--source_bytes", nargs=2, help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.source_bytes:
        dataset, store = chosen.source_bytes
        print(_read_of_source(Settings(dataset=dataset, samples=chosen.cells, store=store)))
        return
    with tempfile.TemporaryDirectory() as scratch:
        measured = measure(Path(scratch), chosen.cells, chosen.dataset, chosen.rounds)
    if chosen.output:
        chosen.output.write_text(json.dumps(measured, indent=1))
    for row in promises(measured):
        print(f"{row.what}: {row.measured} ({row.promised}) {'kept' if row.kept else 'NOT KEPT'}")


def measure(scratch: Path, cells: int, dataset: Path | None = None, rounds: int = 1) -> Figures:
    """Plan and run so many cells in turn, some rounds; give what was planned and what was measured of each."""
    folder = dataset or write_dataset(scratch / "dataset", cells, 42)
    taken = [_round(Commands(folder, cells, scratch)) for _ in range(rounds)]
    read = _source_bytes(folder, cells, scratch)
    return {"cells": cells, "load": os.getloadavg()[0], "rounds": taken, "source_bytes": read}


def promises(measured: Figures) -> list[Row]:
    """What the plan promises, and whether it was so."""
    cells, taken = measured["cells"], measured["rounds"]
    read = [{"planned": one["source"]["planned"], "real": measured["source_bytes"]} for one in taken]
    compared = {
        "time of the command": ("time", [one["seconds"] for one in taken]),
        "time of its stages": ("time", [one["stages"] for one in taken]),
        "bytes read from the source": ("bytes", read),
        "bytes left in the store": ("bytes", [one["store"] for one in taken]),
        "bytes of the results": ("bytes", [one["output"] for one in taken]),
    }
    return [_row(f"plan of {cells:,} cells, {what}", kind, pairs) for what, (kind, pairs) in compared.items()]


def _row(what: str, kind: str, pairs: Sequence[Figures]) -> Row:
    planned, real = (statistics.median(pair[side] for pair in pairs) for side in ("planned", "real"))
    off = planned / real - 1
    promised = _PROMISED[kind]
    told = f"{planned:.4g} planned, {real:.4g} measured, {off:+.0%}"
    return Row(what, told, f"within {promised:.0%}", abs(off) <= promised)


def _round(commands: Commands) -> Figures:
    plan = _plan(commands)
    real = commands.flow()
    output = commands.scratch / "flow"
    stages = {stage.stage: stage.seconds(plan.spans[0].workers) for stage in plan.stages}
    return {
        "seconds": {"planned": plan.spans[0].hours * 3600, "real": real["wall_seconds"]},
        "stages": {"planned": sum(stages.values()), "real": sum(real["stages"].values())},
        "by_stage": {stage: [planned, real["stages"].get(stage)] for stage, planned in stages.items()},
        "source": {"planned": plan.extent.source_bytes},
        "store": {"planned": plan.left, "real": sum(real["bytes_on_disk"].values())},
        "output": {"planned": plan.results, "real": _size(output)},
        "memory": {"planned": plan.memory, "real": real["peak_bytes"]},
        "core_seconds": {"planned": plan.core_hours * 3600, "real": real["cpu_seconds"]},
    }


def _plan(commands: Commands) -> Forecast:
    file = commands.scratch / "plan.json"
    flags = {"dataset": commands.dataset, "samples": commands.cells, "pca_dim": COMPONENTS, "clusters": CLUSTERS}
    words = [word for name, value in (flags | {"plan_file": file}).items() for word in (f"--{name}", str(value))]
    run([sys.executable, "flows/run.py", "--plan", *words], dict(os.environ), commands.scratch)
    return Forecast.model_validate_json(file.read_text())


def _source_bytes(dataset: Path, cells: int, scratch: Path) -> int:
    """Bytes that a process of its own reads as it lands the cells."""
    words = ["--cells", str(cells), "--source_bytes", str(dataset), str(scratch / "landed")]
    run([sys.executable, "-m", "tests.bench.forecast", *words], dict(os.environ), scratch)
    return int((scratch / "log").read_text().split()[-1])


def _read_of_source(settings: Settings) -> int:
    plan = make_plan(settings)
    before = _read_so_far()
    for part in plan.partitions:
        land_cells(part, plan.vocabulary, settings)
    # Each partition reads the vocabulary from the store.
    return _read_so_far() - before - plan.vocabulary.table.size * len(plan.partitions)


def _read_so_far() -> int:
    return int(Path("/proc/self/io").read_text().split()[1])


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


if __name__ == "__main__":
    main()
