"""A fold: the same function over every item on an executor, results taken in the items' order.

However many workers there are, results are combined in one order, so sums are the same to the last bit; and at any
time only a few results are waiting, so memory does not grow with the number of items.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any, Generic, Self, TypeVar

from threadpoolctl import threadpool_limits

from tasks.core.base.deadline import check_deadline
from tasks.core.base.errors import NumericsError

Item = TypeVar("Item")
Read = TypeVar("Read")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Blocks(Generic[Read]):
    """Rows of a matrix in blocks that are read when they are needed.

    Attributes:
        sources: where each block is.
        names: what to call each in messages.
        rows: rows of each.
        read: gives the block of a source.
        workers: threads that read and compute at the same time, each on a block of its own.
    """

    sources: Sequence[Any]
    names: Sequence[str]
    rows: Sequence[int]
    read: Callable[[Any], Read]
    workers: int

    @classmethod
    def cut(cls, rows: Any, size: int, workers: int) -> Self:
        """Cut a matrix that is in memory into blocks of so many rows, the last one smaller."""
        starts = range(0, rows.shape[0], size)
        return cls(
            sources=starts,
            names=[f"the block from row {start:,} on" for start in starts],
            rows=[min(size, rows.shape[0] - start) for start in starts],
            read=lambda start: rows[start : start + size],
            workers=workers,
        )

    def every(self, step: int) -> Self:
        """Give each step-th block, from the first on."""
        sample = slice(None, None, step)
        return replace(self, sources=self.sources[sample], names=self.names[sample], rows=self.rows[sample])

    def map(self, function: Callable[..., Result], *each: Iterable[Any]) -> Iterator[Result]:
        """Yield `function(block, ...)` for every block, in order; each further iterable gives an argument a block.

        Raises:
            NumericsError: the function refused a block; names it.
        """

        def applied(item: tuple[Any, ...]) -> Result:
            name, source, *arguments = item
            try:
                return function(self.read(source), *arguments)
            except NumericsError as error:
                raise NumericsError(f"{name} {error}") from error

        items = zip(self.names, self.sources, *each, strict=True)
        with ThreadPoolExecutor(self.workers) as executor:
            yield from in_order(executor, applied, items, ahead=self.workers + 1)


class KeepFirst(Generic[Read]):
    """Reads blocks, and keeps the first ones in memory until a budget is spent.

    Passes go over all blocks in the same order, where keeping the latest would always miss.

    Args:
        read: gives the block of a source.
        size: bytes of a block.
        budget: bytes to keep at most.
    """

    def __init__(self, read: Callable[[Any], Read], size: Callable[[Read], int], budget: int) -> None:
        self._read = read
        self._size = size
        self._left = budget
        self._kept: dict[Any, Read] = {}
        self._lock = threading.Lock()

    def __call__(self, source: Any) -> Read:
        """Give the block of a source, which must be hashable."""
        if source in self._kept:
            return self._kept[source]
        block = self._read(source)
        size = self._size(block)
        with self._lock:
            if size <= self._left and source not in self._kept:
                self._kept[source] = block
                self._left -= size
        return block


def in_order(
    executor: Executor, function: Callable[[Item], Result], items: Iterable[Item], ahead: int
) -> Iterator[Result]:
    """Yield `function(item)` for each item, in order, at most `ahead` of them under way or waiting.

    Raises:
        ValueError: `ahead` is below 1.
        StageTimeoutError: the stage has no time left.
        Exception: what the function raised, at its item's turn; items not yet begun are left undone.
    """
    if ahead < 1:
        raise ValueError(f"{ahead=} must be at least 1")
    pending: deque[Future[Result]] = deque()
    try:
        for item in items:
            check_deadline()
            pending.append(executor.submit(function, item))
            if len(pending) >= ahead:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        for future in pending:
            future.cancel()


def one_blas_thread() -> AbstractContextManager[object]:
    """Hold BLAS and OpenMP to one thread: the folds have their own, and one thread sums in one order."""
    limits: AbstractContextManager[object] = threadpool_limits(limits=1)
    return limits
