"""A process, told so that another one on the same machine can see whether it is gone."""

import os
import subprocess
from pathlib import Path

from pydantic import BaseModel, ConfigDict

_PROC = Path("/proc/self/stat")
_ENDED = ("Z", "X")


class Process(BaseModel):
    """A process that runs or ran.

    Attributes:
        machine: where its number means something: a boot of a machine, and a set of processes that see each other;
            empty where the system does not tell.
        number: its process id there.
        started: when it started, in the system's own units: a later process may get the same number.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    machine: str
    number: int
    started: str

    @property
    def is_here(self) -> bool:
        """Whether it can be seen from here, if it runs."""
        return self.machine == _machine() != ""

    @property
    def is_gone(self) -> bool:
        """Whether it is known to have ended: False as well for one that cannot be seen from here."""
        return self.is_here and started(self.number) != self.started


def this_process() -> Process:
    """Describe the one that asks."""
    number = os.getpid()
    return Process(machine=_machine(), number=number, started=started(number) or "")


def _machine() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def started(number: int) -> str | None:
    """When a process started, in the system's own words; None if it does not run."""
    if _PROC.exists():
        try:
            # The name, in parentheses, may hold anything; what follows it are the state and then numbers.
            state, *numbers = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return None
        return None if state in _ENDED else numbers[18]
    asked = ["ps", "-o", "state=,lstart=", "-p", str(number)]
    answer = subprocess.run(asked, capture_output=True, text=True, check=False).stdout  # noqa: S603  (numbers alone)
    state, _, since = answer.strip().partition(" ")
    return None if state[:1] in ("", *_ENDED) else since.strip()
