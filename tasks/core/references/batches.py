"""Partitions in batches: what one task run handles, so that a run of many partitions has not many more task runs."""

from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise
from typing import Concatenate, Generic, ParamSpec, Protocol, TypeVar

from tasks.core.base.errors import CorruptObjectError
from tasks.core.base.tapering import tapered
from tasks.core.storage.store import Outcome, Reference

# A task run takes the Prefect server some hundredths of a second, the run's process some 40 kB, and the database half
# of that; and so many for each stage leave enough for the workers to share evenly.
_MOST_BATCHES = 320


class _Placed(Protocol):
    @property
    def origin(self) -> str:
        """Shard and first row."""


P = ParamSpec("P")
Item = TypeVar("Item", bound=_Placed)
Result = TypeVar("Result", bound=Reference)


class Handled(Generic[Result]):
    """What became of a batch: a result each, how many of them were not there before, and what has made them all."""

    def __init__(self, results: list[Result], made: int, environments: frozenset[str]) -> None:
        self.results = results
        self.made = made
        self.environments = environments

    @property
    def cached(self) -> int:
        """Results that an earlier run had left."""
        return len(self.results) - self.made


class Batch(Generic[Item]):
    """Items, each most often a partition, that one task run handles, one after the other.

    Neither this nor `Handled` is a model or a dataclass: Prefect would look through all that is in them.
    """

    def __init__(self, items: Sequence[Item]) -> None:
        self.items = items
        self._made: set[int] = set()

    @property
    def origin(self) -> str:
        """Shard and row of the first and the last, as people are told of the batch."""
        first, last = self.items[0].origin, self.items[-1].origin
        return first if len(self.items) == 1 else f"{first} to {last}, {len(self.items):,} partitions"

    def handle(
        self, step: Callable[Concatenate[Item, P], Outcome[Result]], *shared: P.args, **named: P.kwargs
    ) -> Handled[Result]:
        """Take a step with each item; what an attempt before this one has made is found, and counted as made.

        Raises:
            CorruptObjectError: objects are damaged or gone; names those of all items.
        """
        results, damage = [], []
        environments: set[str] = set()
        for at, item in enumerate(self.items):
            try:
                outcome = step(item, *shared, **named)
            except CorruptObjectError as error:
                damage.append(str(error))
                continue
            if not outcome.cached:
                self._made.add(at)
            results.append(outcome.result)
            environments |= outcome.environments
        if damage:
            raise CorruptObjectError("; ".join(damage))
        return Handled(results, len(self._made), frozenset(environments))


def in_batches(items: Sequence[Item], cells: int, partition_cells: int) -> list[Batch[Item]]:
    """Put items into batches, in their order.

    Args:
        items: at least one.
        cells: of all items, as planned.
        partition_cells: the most that a partition may hold.
    """
    ends = list(accumulate(batch_sizes(len(items), cells, partition_cells), initial=0))
    return [Batch(items[start:stop]) for start, stop in pairwise(ends)]


def batch_sizes(items: int, cells: int, partition_cells: int) -> list[int]:
    """How many items each batch has: by how many there are, and by nothing that changes with the workers.

    A batch has as many items as hold half a full partition of cells, were all alike, so that one of full partitions
    has a single one; and more where that would be many hundreds of batches.
    """
    batches = min(_MOST_BATCHES, max(1, -(-2 * cells // partition_cells)))
    return tapered(items, -(-items // batches))
