"""How long a stage may take: set by whoever runs it, asked at every block."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

from tasks.core.base.errors import StageTimeoutError

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class TimeLeft:
    """What is left of a stage's time: for a worker, whose clock may be another one.

    Attributes:
        stage: its name.
        seconds: that it was given in all.
        left: seconds from now on.
    """

    stage: str
    seconds: float
    left: float


@dataclass(frozen=True)
class _Deadline:
    stage: str
    seconds: float
    until: float


_deadline: ContextVar[_Deadline | None] = ContextVar("deadline", default=None)


@contextmanager
def deadline(stage: str, seconds: float | None) -> Iterator[None]:
    """Give a stage so many seconds, from now on; None gives it all the time it takes."""
    with _resumed(None if seconds is None else TimeLeft(stage, seconds, seconds)):
        yield


def time_left() -> TimeLeft | None:
    """Tell how much time the stage at hand has left; None if it has no limit."""
    given = _deadline.get()
    return None if given is None else TimeLeft(given.stage, given.seconds, given.until - time.monotonic())


def in_time(left: TimeLeft | None, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Call a function for a stage that has so much time left: on a worker, which knows nothing of the stage."""
    with _resumed(left):
        return function(*args, **kwargs)


@contextmanager
def _resumed(left: TimeLeft | None) -> Iterator[None]:
    until = None if left is None else _Deadline(left.stage, left.seconds, time.monotonic() + left.left)
    token = _deadline.set(until)
    try:
        yield
    finally:
        _deadline.reset(token)


def check_deadline() -> None:
    """Ask, between two blocks of work, whether there is time for more: a thread cannot be stopped from outside.

    Raises:
        StageTimeoutError: there is not.
    """
    given = _deadline.get()
    if given is not None and time.monotonic() > given.until:
        raise StageTimeoutError(
            f"stage {given.stage} took longer than --stage_timeout {given.seconds:g} s; what is finished is kept: "
            "the same command goes on from there, a higher limit or none gives it more time"
        )
