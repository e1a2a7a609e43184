"""How far a run is: told by the stages, heard by whoever shows it."""

import logging
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Progress:
    """News of a stage: most often that a step of it is done.

    Attributes:
        stage: its name.
        unit: what a step is: a partition, a pass.
        done: steps done; None where the news is another.
        total: of how many; None while that is not known, as for passes until a tolerance is met.
        note: what a person wants to know of it.
    """

    stage: str
    unit: str = ""
    done: int | None = None
    total: int | None = None
    note: str = ""

    def __str__(self) -> str:
        of = "" if self.total is None else f" of {self.total:,}"
        step = "" if self.done is None else f"{self.unit} {self.done:,}{of}"
        return f"{self.stage}: {', '.join(part for part in (step, self.note) if part)}"


def _log_line(progress: Progress) -> None:
    _log.info("%s", progress)


listener: ContextVar[Callable[[Progress], None]] = ContextVar("listener", default=_log_line)
"""Who hears of progress in this context: a logger, unless the command line puts a bar in its place."""


def report(progress: Progress) -> None:
    """Tell the listener of this context."""
    listener.get()(progress)
