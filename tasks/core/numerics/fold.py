"""A fold: the same function over every block on an executor, results taken in the blocks' order.

Sums are made of groups of consecutive blocks, in order, where the work is done, and then of the groups' sums, in order.
The groups depend on the number of blocks alone, so that results are the same to the last bit whoever works, and however
many. At any time only a few results are waiting: memory does not grow with the blocks. Workers that are far get the
blocks in those groups; threads get them one by one, for then none waits long for the last one to be done.
"""

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import reduce
from itertools import chain, islice, repeat, takewhile
from operator import iadd
from typing import Any, Generic, Self, TypeVar

from threadpoolctl import threadpool_limits

from tasks.core.base.environment import collected_environments, environment
from tasks.core.base.errors import NumericsError
from tasks.core.base.tapering import tapered
from tasks.core.numerics.workers import Workers, at_work

Read = TypeVar("Read")
Result = TypeVar("Result")

_LEAST_GROUPS = 12


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

    def map(self, function: Callable[..., Result], *each: "Iterable[Any] | Blocks[Any]") -> Iterator[Result]:
        """Yield `function(block, ...)` for every block, in order; each further iterable gives an argument a block.

        The function may be called in another process: it gets there with all that it refers to. Further blocks are read
        there too, so that what is known of each cell passes through no other process.

        Raises:
            NumericsError: the function refused a block; names it.
        """
        with at_work(self.workers) as workers:
            sizes = groups(len(self.sources)) if workers.are_far else []
            for results in self._calls(workers, sizes, list, function, each):
                yield from results

    def sum(self, function: Callable[..., Result], *each: "Iterable[Any] | Blocks[Any]") -> Result:
        """Sum up `function(block, ...)` over all blocks; what a function gives may be changed by adding to it.

        Raises:
            NumericsError: the function refused a block; names it.
        """
        sizes = groups(len(self.sources))
        with at_work(self.workers) as workers:
            if workers.are_far:
                sums = self._calls(workers, sizes, _sum_up, function, each)
            else:
                sums = _sums_of(self._calls(workers, [], _sum_up, function, each), sizes)
            total: Result = _sum_up(sums)
            return total

    def _calls(
        self,
        workers: Workers,
        sizes: Sequence[int],
        gather: Callable[[Iterable[Any]], Any],
        function: Callable[..., Any],
        each: "Iterable[Iterable[Any] | Blocks[Any]]",
    ) -> Iterator[Any]:
        """Call a worker for so many blocks each time, and for each that is left by itself."""
        reads = [self.read, *(of.read if isinstance(of, Blocks) else _as_it_is for of in each)]
        given = (of.sources if isinstance(of, Blocks) else of for of in each)
        items = zip(self.names, self.sources, *given, strict=True)
        # To the end of all: only there it is seen that one has too many.
        together = takewhile(bool, (list(islice(items, size)) for size in chain(sizes, repeat(1))))
        with workers.share(_Step(reads, function, gather)) as step:
            for result, made_in in in_order(workers, _work, ((step, group) for group in together)):
                collected_environments().add(made_in)
                yield result


@dataclass(frozen=True)
class _Step:
    """What is done to the blocks of a group.

    Attributes:
        reads: give the block of a source, and each of what is given with it.
        function: of all these.
        gather: makes one result of those of the group's blocks.
    """

    reads: Sequence[Callable[[Any], Any]]
    function: Callable[..., Any]
    gather: Callable[[Iterable[Any]], Any]

    def __call__(self, group: Sequence[tuple[Any, ...]]) -> Any:
        return self.gather(map(self._apply, group))

    def _apply(self, item: tuple[Any, ...]) -> Any:
        name, *sources = item
        try:
            return self.function(*(read(source) for read, source in zip(self.reads, sources, strict=True)))
        except NumericsError as error:
            raise NumericsError(f"{name} {error}") from error


def _as_it_is(argument: Any) -> Any:
    return argument


def _work(step: _Step, group: Sequence[tuple[Any, ...]]) -> tuple[Any, str]:
    return step(group), environment()


def _sum_up(results: Iterable[Any]) -> Any:
    return reduce(iadd, results)


def _sums_of(results: Iterator[Any], sizes: Iterable[int]) -> Iterator[Any]:
    """Sum up so many results each time, no sooner than they are there."""
    # The results come first, and so to their end.
    for first, size in zip(results, sizes, strict=True):
        yield _sum_up(chain([first], islice(results, size - 1)))


def groups(blocks: int) -> list[int]:
    """How many blocks each group has, by the number of all blocks alone.

    A group's sum may have a long way to go. So there are not many more groups than twice the root of the blocks, but
    twelve at least, for as many workers.
    """
    return tapered(blocks, max(min(blocks // _LEAST_GROUPS, math.isqrt(blocks)), 1))


def in_order(
    workers: Workers, function: Callable[..., Result], arguments: Iterable[tuple[Any, ...]]
) -> Iterator[Result]:
    """Yield `function(*of_one)` for each, in order, only so many under way or waiting as the workers say.

    Raises:
        Exception: what the function raised, at its turn; what is not yet begun is left undone.
    """
    pending: deque[Future[Result]] = deque()
    try:
        for of_one in arguments:
            pending.append(workers.submit(function, *of_one))
            while len(pending) >= workers.ahead:
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
