"""Calls that are carried out in other processes: what is sent there, and what becomes of it."""

import pickle
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import cloudpickle

from tasks.core.base.errors import EngineError


@dataclass(frozen=True)
class Shared:
    """What many calls need, as sent: a process unpacks it once, and keeps it until it gets another one.

    Attributes:
        name: of its own.
        data: pickled, with the functions in it; or the file where that is.
    """

    name: str
    data: bytes | Path

    @classmethod
    def of(cls, value: Any) -> "Shared":
        """Pack a value."""
        return cls(uuid4().hex, cloudpickle.dumps(value))

    @property
    def size(self) -> int:
        """Bytes that it is packed in."""
        return len(self._bytes())

    def into(self, folder: Path) -> "Shared":
        """Put what is packed into a file, for processes of this machine."""
        path = folder / self.name
        path.write_bytes(self._bytes())
        return Shared(self.name, path)

    def value(self) -> Any:
        """Give the value."""
        with _lock:
            if self.name not in _latest:
                _latest.clear()
                _latest[self.name] = pickle.loads(self._bytes())  # noqa: S301  (the run's own process packed it)
            return _latest[self.name]

    def _bytes(self) -> bytes:
        return self.data.read_bytes() if isinstance(self.data, Path) else self.data


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
