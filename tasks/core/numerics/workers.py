"""Who does the work of folds and steps: threads of this process, unless others are put to work around it."""

from abc import abstractmethod
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any, TypeVar

from tasks.core.base.errors import SettingsError
from tasks.core.base.settings import available_cores

R = TypeVar("R")

# Calls under way or waiting for each worker that is far. Results are taken in order: while one share takes its time,
# the others must not want for the smaller ones that follow.
AHEAD = 4


class Workers(Executor):
    """An executor that knows how much to have under way, and hands each worker what all of them need only once."""

    are_far = True
    """Whether they have no memory in common with this process, so that a call costs as much as some work."""

    @property
    @abstractmethod
    def ahead(self) -> int:
        """How many calls to have under way or waiting: more than there are workers now."""

    @abstractmethod
    def share(self, value: Any) -> AbstractContextManager[Any]:
        """Give what may stand for a value among the arguments of a call, as long as the block lasts.

        The function that is submitted gets the value itself.
        """


class Threads(ThreadPoolExecutor, Workers):
    """Threads of this process, which share all its memory."""

    are_far = False

    @property
    def ahead(self) -> int:
        """One more than there are threads."""
        return self._max_workers + 1

    def share(self, value: Any) -> AbstractContextManager[Any]:
        """Give the value itself."""
        return nullcontext(value)


def threads_of(n_jobs: int | None) -> int:
    """Give the threads that scikit-learn means by `n_jobs`: None for one, -1 for all cores, -2 for all but one.

    Raises:
        SettingsError: it is 0.
    """
    if n_jobs == 0:
        raise SettingsError("n_jobs=0 has no meaning; give 1 or more, -1 for all cores, or None for one")
    wanted = 1 if n_jobs is None else n_jobs
    return wanted if wanted > 0 else max(available_cores() + 1 + wanted, 1)


_at_work: ContextVar[Workers | None] = ContextVar("workers", default=None)


@contextmanager
def put_to_work(workers: Workers | None) -> Iterator[None]:
    """Have these workers do the work of this context; None for threads of this process."""
    token = _at_work.set(workers)
    try:
        yield
    finally:
        _at_work.reset(token)


def at_work(threads: int) -> AbstractContextManager[Workers]:
    """Give the workers of this context, or so many threads that end with the block."""
    workers = _at_work.get()
    return Threads(threads) if workers is None else nullcontext(workers)


def done_by_worker(function: Callable[..., R], *arguments: Any, **named: Any) -> R:
    """Call a function on one of the workers of this context, or here where it has none.

    Raises:
        Exception: what the function raised.
    """
    workers = _at_work.get()
    if workers is None:
        return function(*arguments, **named)
    result: R = workers.submit(function, *arguments, **named).result()
    return result
