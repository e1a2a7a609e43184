"""Times a command as a process tree: wall and CPU seconds, and the most memory that the tree held at once."""

import os
import resource
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Cost:
    wall_seconds: float
    cpu_seconds: float
    peak_bytes: int
    """Of all processes together."""
    peak_child_bytes: int
    """Of the largest one that the command started."""


def run(command: Sequence[str], environment: Mapping[str, str], folder: Path) -> Cost:
    """Run a command to its end; raises CalledProcessError with its output if it fails."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.perf_counter()
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen(command, cwd=ROOT, env=dict(environment), stdout=log, stderr=subprocess.STDOUT) as process,
    ):
        peaks = _watch(process)
    wall = time.perf_counter() - began
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command, (folder / "log").read_text())
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Cost(wall, cpu, *peaks)


def _watch(process: subprocess.Popen[bytes]) -> tuple[int, int]:
    peak, of_one, ended = 0, 0, threading.Event()

    def sample() -> None:
        nonlocal peak, of_one
        while not ended.wait(0.1):
            sizes = _resident(process.pid)
            peak = max(peak, sum(sizes.values()))
            of_one = max(of_one, *(size for number, size in sizes.items() if number != process.pid), 0)

    thread = threading.Thread(target=sample)
    thread.start()
    process.wait()
    ended.set()
    thread.join()
    return peak, of_one


def _resident(root: int) -> dict[int, int]:
    """Memory of a process and of each below it; pages they share are counted for each (an upper bound)."""
    parents: dict[int, int] = {}
    sizes: dict[int, int] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
                sizes[int(folder.name)] = int((folder / "statm").read_text().split()[1]) * _PAGE
                parents[int(folder.name)] = int(fields[1])
            except OSError:
                continue
    return {process: size for process, size in sizes.items() if _is_below(process, root, parents)}


def _is_below(process: int, root: int, parents: Mapping[int, int]) -> bool:
    while process not in (0, root):
        process = parents.get(process, 0)
    return process == root
