"""Partitions in batches: what one task run handles, so that a run of many partitions has not many more task runs."""

from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate, pairwise
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from tasks.core.base.errors import CorruptObjectError
from tasks.core.base.tapering import tapered
from tasks.core.storage.store import Outcome, Reference

# A task run takes the Prefect server some hundredths of a second, the run's process some 40 kB, and the database half
# of that; and so many for each stage leave enough for the workers to share evenly.
_MOST_BATCHES = 320


class _Part(Protocol):
    @property
    def origin(self) -> str:
        """Shard and first row."""

    @property
    def is_empty(self) -> bool:
        """Whether it has no cells."""


P = ParamSpec("P")
T = TypeVar("T")
Item = TypeVar("Item", bound=_Part)
Result = TypeVar("Result", bound=Reference)


class Batch(Sequence[T]):
    """Partitions, or what was made of them, that one task run handles, one after the other.

    Neither a model, nor a dataclass, nor a list: Prefect would look for futures in all that is in them.

    Args:
        items: of the batch.
        found: how many of them the store had already.
    """

    def __init__(self, items: Iterable[T], found: int = 0) -> None:
        self.items = tuple(items)
        self.found = found

    def __getitem__(self, at: Any) -> Any:
        return self.items[at]

    def __len__(self) -> int:
        return len(self.items)

    @property
    def origin(self) -> str:
        """Shard and row of the first and the last, as people are told of the batch."""
        if not self.items:
            return "no cells"
        first, last = (item.origin for item in (self.items[0], self.items[-1]))  # type: ignore[attr-defined]
        return first if len(self.items) == 1 else f"{first} to {last}, {len(self.items):,} partitions"


def handle(
    items: Iterable[Item],
    step: Callable[Concatenate[Item, P], Outcome[Result]],
    *shared: P.args,
    **named: P.kwargs,
) -> list[Outcome[Result]]:
    """Take a step with each item that has cells.

    Raises:
        CorruptObjectError: objects are damaged or gone; names those of all items.
    """
    outcomes, damage = [], []
    for item in items:
        if item.is_empty:
            continue
        try:
            outcomes.append(step(item, *shared, **named))
        except CorruptObjectError as error:
            damage.append(str(error))
    if damage:
        raise CorruptObjectError("; ".join(damage))
    return outcomes


def in_batches(items: Sequence[T], cells: int, partition_cells: int) -> list[Batch[T]]:
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
