"""This flow against the plain script, from the same simulated cells to the same two files, side by side.

    python -m tests.bench.against_script [--cells 20000] [--rounds 3]

Both commands are timed as whole processes, in turn, each round from nothing but the dataset: the flow with its own
temporary Prefect server and an empty store. The ratio is what counts; the machine decides the seconds.
"""

import argparse
import os
import platform
import shutil
import sys
import tempfile
from pathlib import Path

from tasks.core.synthetic import write_dataset
from tests.bench.measure import Cost, medians, run

ROOT = Path(__file__).resolve().parents[2]
COMPONENTS, CLUSTERS = 50, 10


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--cells", type=int, default=20_000)
    options.add_argument("--rounds", type=int, default=3)
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        dataset = write_dataset(folder / "dataset", chosen.cells, seed=42)
        flow, script = [], []
        for _ in range(chosen.rounds):
            script.append(_run_script(dataset, chosen.cells, folder))
            flow.append(_run_flow(dataset, chosen.cells, folder))
        _print(chosen.cells, chosen.rounds, medians(flow), medians(script))


def _run_script(dataset: Path, cells: int, folder: Path) -> Cost:
    sizes = [str(number) for number in (cells, COMPONENTS, CLUSTERS)]
    command = [sys.executable, "-m", "tests.bench.plain_script", str(dataset), *sizes, str(folder / "script")]
    return run(command, os.environ | {"PYTHONPATH": str(ROOT)}, folder)


def _run_flow(dataset: Path, cells: int, folder: Path) -> Cost:
    shutil.rmtree(folder / "store", ignore_errors=True)
    flags = {
        "dataset": dataset,
        "samples": cells,
        "pca_dim": COMPONENTS,
        "clusters": CLUSTERS,
        "store": folder / "store",
        "output": folder / "flow",
    }
    command = [sys.executable, str(ROOT / "flows" / "run.py")]
    command += [word for name, value in flags.items() for word in (f"--{name}", str(value))]
    environment = {name: value for name, value in os.environ.items() if name != "PREFECT_API_URL"}
    return run(command, environment | {"PREFECT_HOME": str(folder / "prefect")}, folder)


def _print(cells: int, rounds: int, flow: Cost, script: Cost) -> None:
    print(f"{cells:,} simulated cells, {COMPONENTS} components, {CLUSTERS} clusters; medians of {rounds} rounds")
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    print(f"{'':14}{'wall s':>10}{'CPU s':>10}{'peak MB':>10}")
    for name, cost in (("this flow", flow), ("plain script", script)):
        print(f"{name:14}{cost.wall_seconds:10.1f}{cost.cpu_seconds:10.1f}{cost.peak_bytes / 1e6:10.0f}")
    wall, cpu, memory = (
        script.wall_seconds / flow.wall_seconds,
        script.cpu_seconds / flow.cpu_seconds,
        script.peak_bytes / flow.peak_bytes,
    )
    print(f"{'script / flow':14}{wall:10.2f}{cpu:10.2f}{memory:10.2f}")


if __name__ == "__main__":
    main()
