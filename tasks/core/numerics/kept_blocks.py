"""Blocks that stay in memory from pass to pass, as far as there is room for them."""

import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar
from uuid import uuid4

Read = TypeVar("Read")


class KeepFirst(Generic[Read]):
    """Reads blocks, and keeps the first ones in memory until a budget is spent.

    Passes go over all blocks in the same order, where keeping the latest would always miss. Another process that gets
    it keeps blocks of its own, those that it happens to read, up to the same budget, until it gets one of another fit.

    Args:
        read: gives the block of a source.
        size: bytes of a block.
        budget: bytes to keep at most.
        name: by which another process knows it again in each pass.
    """

    def __init__(
        self, read: Callable[[Any], Read], size: Callable[[Read], int], budget: int, name: str | None = None
    ) -> None:
        self._made_of = read, size, budget, name or uuid4().hex
        self._left = budget
        self._kept: dict[Any, Read] = {}
        self._lock = threading.Lock()

    def __call__(self, source: Any) -> Read:
        """Give the block of a source, which must be hashable."""
        if source in self._kept:
            return self._kept[source]
        read, measure, *_ = self._made_of
        block = read(source)
        size = measure(block)
        with self._lock:
            if size <= self._left and source not in self._kept:
                self._kept[source] = block
                self._left -= size
        return block

    def __reduce__(self) -> tuple[Callable[..., "KeepFirst[Read]"], tuple[Any, ...]]:
        return _kept_here, self._made_of


_lately: dict[str, KeepFirst[Any]] = {}
_lock = threading.Lock()


def _kept_here(read: Callable[[Any], Any], size: Callable[[Any], int], budget: int, name: str) -> KeepFirst[Any]:
    with _lock:
        if name not in _lately:
            _lately.clear()
            _lately[name] = KeepFirst(read, size, budget, name)
        return _lately[name]


def forget_blocks() -> None:
    """Let go of the blocks that this process keeps for another one."""
    _lately.clear()
