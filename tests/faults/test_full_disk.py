"""A disk that fills up at any moment: one clear line, nothing half-written, and it goes on once there is room.

The disk is a small tmpfs in a mount namespace of the test's own, which takes no rights where the kernel lets anyone
make one.
"""

import os
import random
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.commands import ROOT, clean_environment, results
from tests.faults.tally import fault

SETTINGS: dict[str, object] = {"samples": 3_000, "pca_dim": 10, "clusters": 3, "partition_cells": 1_000}
NAMESPACE = ("unshare", "--user", "--map-root-user", "--mount")
# Run with too little room, see what is there, make room, run again, and leave what came out where the test can see it.
SCRIPT = """
set -u
mount -t tmpfs -o size={size} none {disk}
{command} 2> {kept}/told && exit 90
find {disk} -mindepth 1 -name '.*' ! -name .results > {kept}/half-written
mount -o remount,size=1g {disk}
{command} 2> {kept}/told-again || exit 91
cp -r {output} {kept}/
"""


@pytest.fixture(scope="module")
def namespaces() -> None:
    tried = subprocess.run([*NAMESPACE, "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True, check=False)
    if tried.returncode:
        pytest.skip(f"no disk can be made small here: {tried.stderr.decode().strip()}")


def command(dataset: Path, store: Path, output: Path) -> str:
    given = SETTINGS | {"dataset": dataset, "store": store, "output": output}
    flags = [word for name, value in given.items() for word in (f"--{name}", str(value))]
    return shlex.join([sys.executable, str(ROOT / "flows" / "run.py"), *flags])


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@pytest.mark.most_faults(5)
@pytest.mark.parametrize("full", ["store", "output"])
def test_a_disk_that_fills_up_is_told_and_outlived(
    namespaces: None, simulated: Path, tmp_path: Path, environment: dict[str, str], faults: int, full: str
) -> None:
    reach = clean_environment() | environment
    places = {name: tmp_path / "clean" / name for name in ("store", "output")}
    subprocess.run(["bash", "-c", command(simulated, **places)], env=reach, capture_output=True, check=True)
    expected, whole = results(str(places["output"])), size_of(places[full])
    rng = random.Random(2)
    for number in range(faults):
        kept, disk = tmp_path / f"kept-{full}-{number}", tmp_path / f"disk-{full}-{number}"
        kept.mkdir()
        disk.mkdir()
        elsewhere = {name: tmp_path / f"elsewhere-{number}" / name for name in places}
        there = elsewhere | {full: disk / full}
        size = int(whole * rng.uniform(0.05, 0.9))
        script = SCRIPT.format(
            command=command(simulated, **there), size=size, disk=disk, kept=kept, output=there["output"]
        )
        with fault(f"full disk: {full}"):
            ran = subprocess.run([*NAMESPACE, "bash", "-c", script], env=reach, capture_output=True, check=False)
            told = (kept / "told").read_text()
            assert ran.returncode == 0, (ran, told)
            (line,) = (line for line in told.splitlines() if line.startswith("error: "))
            assert os.strerror(28) in line
            assert "Traceback" not in told
            assert not (kept / "half-written").read_text()
            assert results(str(kept / "output")) == expected
