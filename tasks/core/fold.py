"""A fold: the same function over every item on an executor, results taken in the items' order.

However many workers there are, results are combined in one order, so sums are the same to the last bit; and at any
time only a few results are waiting, so memory does not grow with the number of items.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from contextlib import AbstractContextManager
from typing import TypeVar

from threadpoolctl import threadpool_limits

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_order(
    executor: Executor, function: Callable[[Item], Result], items: Iterable[Item], ahead: int
) -> Iterator[Result]:
    """Yield `function(item)` for each item, in order, at most `ahead` of them under way or waiting.

    Raises:
        ValueError: `ahead` is below 1.
        Exception: what the function raised, at its item's turn; items not yet begun are left undone.
    """
    if ahead < 1:
        raise ValueError(f"{ahead=} must be at least 1")
    pending: deque[Future[Result]] = deque()
    try:
        for item in items:
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
