"""How long a stage may take: set by whoever runs it, asked at every block."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from tasks.core.base.errors import StageTimeoutError


@dataclass(frozen=True)
class _Deadline:
    stage: str
    seconds: float
    until: float


_deadline: ContextVar[_Deadline | None] = ContextVar("deadline", default=None)


@contextmanager
def deadline(stage: str, seconds: float | None) -> Iterator[None]:
    """Give a stage so many seconds, from now on; None gives it all the time it takes."""
    token = _deadline.set(None if seconds is None else _Deadline(stage, seconds, time.monotonic() + seconds))
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
