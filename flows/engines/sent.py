"""Calls that are carried out in other processes: what is sent there, and what becomes of it."""

import pickle
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import cloudpickle

from tasks.core.base.errors import EngineError


@dataclass(frozen=True)
class Shared:
    """What many calls need, as sent: a process unpacks it once, and keeps it until it gets another one.

    Attributes:
        name: of its own.
        data: pickled, with the functions in it.
    """

    name: str
    data: bytes

    @classmethod
    def of(cls, value: Any) -> "Shared":
        """Pack a value."""
        return cls(uuid4().hex, cloudpickle.dumps(value))

    def value(self) -> Any:
        """Give the value."""
        with _lock:
            if self.name not in _latest:
                _latest.clear()
                _latest[self.name] = pickle.loads(self.data)  # noqa: S301  (the run's own process packed it)
            return _latest[self.name]


_latest: dict[str, Any] = {}
_lock = threading.Lock()


def call(function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    """Call a function with what was sent for its arguments."""
    return function(*(one.value() if isinstance(one, Shared) else one for one in arguments), **named)


def forget_shared() -> None:
    """Let go of what was unpacked last."""
    _latest.clear()


class Answer(Future[Any]):
    """The result of a call, as it is fetched: not before it is asked for.

    Args:
        of: the engine's own future.
        explain: says what an error of the engine means; None of one that the call raised.
    """

    def __init__(self, of: Any, explain: Callable[[BaseException], EngineError | None]) -> None:
        super().__init__()
        self._of = of
        self._explain = explain

    def result(self, timeout: float | None = None) -> Any:
        """Wait for the result and give it, or raise what the call raised."""
        try:
            return self._of.result(timeout)
        except Exception as error:
            explained = self._explain(error)
            if explained is None:
                raise
            raise explained from None

    def cancel(self) -> bool:
        """Leave the call undone, if it has not begun."""
        return bool(self._of.cancel())
