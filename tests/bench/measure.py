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
_PAGE, _TICKS = os.sysconf("SC_PAGE_SIZE"), os.sysconf("SC_CLK_TCK")


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
            now = tree(process.pid)
            peak = max(peak, now.resident)
            of_one = max(of_one, *(size for number, size in now.sizes.items() if number != process.pid), 0)

    thread = threading.Thread(target=sample)
    thread.start()
    process.wait()
    ended.set()
    thread.join()
    return peak, of_one


@dataclass(frozen=True)
class Tree:
    """What a process and all below it hold and have used; pages they share are counted once for each.

    Attributes:
        sizes: memory of each, by its number.
    """

    sizes: Mapping[int, int]
    cpu_seconds: float

    @property
    def resident(self) -> int:
        """Memory of all."""
        return sum(self.sizes.values())


def tree(root: int) -> Tree:
    """Look at a process and all below it; those that are gone are not in it."""
    parents: dict[int, int] = {}
    found: dict[int, tuple[int, float]] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
                ticks = int(fields[11]) + int(fields[12])
                found[int(folder.name)] = (resident(folder.name), ticks / _TICKS)
                parents[int(folder.name)] = int(fields[1])
            except OSError:
                continue
    below = {process: of for process, of in found.items() if _is_below(process, root, parents)}
    sizes = {process: size for process, (size, _) in below.items()}
    return Tree(sizes, sum(seconds for _, seconds in below.values()))


def resident(process: str) -> int:
    """Memory of one process, by its number or as `self`."""
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * _PAGE


def _is_below(process: int, root: int, parents: Mapping[int, int]) -> bool:
    while process not in (0, root):
        process = parents.get(process, 0)
    return process == root
