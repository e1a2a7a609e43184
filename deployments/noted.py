"""Processes noted in a file, to be found and ended from another terminal, and no other process by mistake."""

import json
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tasks.core.base.process import started


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
        return started(self.pid) == self.started

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
    new.write_text(json.dumps([asdict(Noted(pid, when)) for pid in pids if (when := started(pid)) is not None]))
    new.replace(file)


def noted(file: Path) -> list[Noted]:
    """Give those of the processes written down that still run."""
    try:
        known = [Noted(**process) for process in json.loads(file.read_text())]
    except (OSError, ValueError, TypeError):
        return []
    return [process for process in known if process.is_alive()]
