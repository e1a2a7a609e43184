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
        done: steps done, of `total`; a stage that stops by a tolerance has an upper bound there.
        note: what a person wants to know of the step.
    """

    stage: str
    done: int
    total: int
    unit: str
    note: str = ""

    def __str__(self) -> str:
        of = f"{self.stage}: {self.unit} {self.done:,} of {self.total:,}"
        return f"{of}, {self.note}" if self.note else of


def _log_line(progress: Progress) -> None:
    _log.info("%s", progress)


listener: ContextVar[Callable[[Progress], None]] = ContextVar("listener", default=_log_line)
"""Who hears of progress in this context: a logger, unless the command line puts a bar in its place."""


def report(progress: Progress) -> None:
    """Tell the listener of this context."""
    listener.get()(progress)
