"""Processes noted in a file, to be found and ended from another terminal, and no other process by mistake."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

_PROC = Path("/proc/self/stat")
_GONE = {"Z", "X"}


@dataclass(frozen=True)
class Noted:
    """A process and when it started: the system gives a process id to another one some day, but not both.

    Attributes:
        pid: its id.
        started: when, in the system's own words.
    """

    pid: int
    started: str

    def is_alive(self) -> bool:
        """Whether this very process runs."""
        return self.started != "" and _started(self.pid) == self.started

    def end(self, seconds: float) -> None:
        """Tell it to end, wait, and kill it if that takes longer than some seconds."""
        for told in (signal.SIGTERM, signal.SIGKILL):
            if not self.is_alive():
                return
            os.kill(self.pid, told)
            until = time.monotonic() + seconds
            while self.is_alive() and time.monotonic() < until:
                time.sleep(0.05)


def note(file: Path, pids: Sequence[int]) -> None:
    """Write down processes that run, in the order in which they are to be ended."""
    file.parent.mkdir(parents=True, exist_ok=True)
    new = file.with_suffix(".new")
    new.write_text(json.dumps([asdict(Noted(pid, _started(pid))) for pid in pids]))
    new.replace(file)


def noted(file: Path) -> list[Noted]:
    """Give those of the processes written down that still run."""
    try:
        known = [Noted(**process) for process in json.loads(file.read_text())]
    except (OSError, ValueError, TypeError):
        return []
    return [process for process in known if process.is_alive()]


def _started(pid: int) -> str:
    """When a process started; empty if it does not run."""
    if _PROC.exists():
        try:
            # The name, in brackets, may hold anything; after it come the state and, as 20th, the start in clock ticks.
            state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return ""
        return "" if state in _GONE else fields[18]
    asked = ["ps", "-o", "state=,lstart=", "-p", str(pid)]
    state, _, started = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip().partition(" ")  # noqa: S603
    return "" if state[:1] in _GONE else started.strip()
