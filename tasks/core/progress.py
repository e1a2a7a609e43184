"""How far a run is: told by the stages, heard by whoever shows it."""

import logging
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Progress:
    """A step of a stage is done.

    Attributes:
        stage: its name.
        unit: what a step is: a partition, a pass.
        done: steps done.
        total: of how many; None while that is not known, as for passes until a tolerance is met.
        note: what a person wants to know of the step.
    """

    stage: str
    unit: str
    done: int
    total: int | None = None
    note: str = ""

    def __str__(self) -> str:
        of = "" if self.total is None else f" of {self.total:,}"
        note = f", {self.note}" if self.note else ""
        return f"{self.stage}: {self.unit} {self.done:,}{of}{note}"


def _log_line(progress: Progress) -> None:
    _log.info("%s", progress)


listener: ContextVar[Callable[[Progress], None]] = ContextVar("listener", default=_log_line)
"""Who hears of progress in this context: a logger, unless the command line puts a bar in its place."""


def report(progress: Progress) -> None:
    """Tell the listener of this context."""
    listener.get()(progress)
