"""How far a run is: told by the stages, heard by all who show it."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from threading import RLock

_EACH_PASS = 0.1
# Stages that are at work at the same time tell of it from threads of their own.
_telling = RLock()


@dataclass(frozen=True)
class Progress:
    """News of a stage: most often that a step of it is done.

    Attributes:
        stage: its name.
        unit: what a step is: a partition, a pass; empty for a stage of one step.
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
        if self.done is None:
            return f"{self.stage}: {self.note}"
        step = f"{self.unit} {self.done:,}{of}" if self.unit else "done"
        note = f", {self.note}" if self.note else ""
        return f"{self.stage}: {step}{note}"

    @property
    def share(self) -> float:
        """Share of the stage that is done; where the total is not known, each step is a tenth of what was left."""
        if self.done is None:
            return 0.0
        return 1.0 - (1.0 - _EACH_PASS) ** self.done if self.total is None else self.done / self.total


Listener = Callable[[Progress], None]
_listeners: ContextVar[tuple[Listener, ...]] = ContextVar("listeners", default=())


@contextmanager
def heard_by(listener: Listener) -> Iterator[None]:
    """Tell one more listener of what this context reports."""
    token = _listeners.set((*_listeners.get(), listener))
    try:
        yield
    finally:
        _listeners.reset(token)


def report(progress: Progress) -> None:
    """Tell all listeners of this context."""
    with _telling:
        for listener in _listeners.get():
            listener(progress)


class Sparsely:
    """Passes on to a listener all that is news, and of the many steps of a stage only some, evenly spaced.

    Args:
        listener: that is told.
        lines: steps to tell of each stage; of one whose total is not known, the first ones and each so manyth.
    """

    def __init__(self, listener: Listener, lines: int) -> None:
        self._listener = listener
        self._lines = lines
        self._told: dict[str, int] = {}

    def __call__(self, step: Progress) -> None:
        """Hear of a step; several may have been done since the last."""
        if self._is_news(step):
            self._listener(step)

    def _is_news(self, step: Progress) -> bool:
        if step.done is None:
            return True
        if step.total is None:
            return step.done <= self._lines or step.done % self._lines == 0
        before, self._told[step.stage] = self._told.get(step.stage, 0), step.done * self._lines // step.total
        return self._told[step.stage] != before


class Gauge:
    """Reads from the steps of all stages what share of the whole run is done: from 0 to 1, never falling.

    Args:
        shares: of each stage in the work of a run, in any unit, in the order in which they run.
    """

    def __init__(self, shares: Mapping[str, float]) -> None:
        total = sum(shares.values())
        self._spans: dict[str, tuple[float, float]] = {}
        for stage, share in shares.items():
            begin = sum(span for _, span in self._spans.values())
            self._spans[stage] = (begin, share / total)
        self.share = 0.0

    def read(self, step: Progress) -> float:
        """Take in a step, and give the share that is done; a stage without a share leaves it as it was."""
        begin, span = self._spans.get(step.stage, (0.0, 0.0))
        self.share = max(self.share, min(begin + span * step.share, 1.0))
        return self.share
