"""The shards of a dataset, opened several at a time."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Literal, TypeVar

from tasks.core.base.deadline import check_deadline
from tasks.core.base.errors import DataError
from tasks.core.base.progress import Progress, report
from tasks.core.base.settings import ALL
from tasks.core.dataset.shard import OpenShard, Shard, name_within, open_shard
from tasks.core.references.cells import Skipped

R = TypeVar("R")
# Shards read at the same time; a footer is a few requests on the Hub.
_AHEAD = 8


class Shards:
    """Opens shards, and notes those that cannot be read where bad data is to be skipped.

    Args:
        dataset: Hugging Face id or folder.
        urls: of all its shards, in stream order.
        skips: whether a shard that cannot be read is left out, or an error.
    """

    def __init__(self, dataset: str, urls: Sequence[str], *, skips: bool) -> None:
        self.dataset = dataset
        self.urls = urls
        self._skips = skips
        self._unreadable: dict[int, DataError] = {}
        self._cells: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self.urls)

    def visit(
        self, function: Callable[[int, OpenShard], R], indices: Iterable[int], total: int | None = None
    ) -> Iterator[dict[int, R]]:
        """Yield `function(index, shard)` by index, in the indices' order, some shards at a time.

        Args:
            function: called on threads.
            indices: of the shards to open.
            total: how many shards there are, where progress is to be told.

        Raises:
            DataError: a shard cannot be decoded and is not to be skipped, or none of the first ones can be.
        """

        def open_one(index: int) -> R | DataError:
            try:
                with open_shard(self.urls[index], self.dataset) as shard:
                    self._cells[index] = sum(shard.group_rows)
                    return function(index, shard)
            except DataError as error:
                if not self._skips:
                    raise
                return error

        remaining = iter(indices)
        done = 0
        with ThreadPoolExecutor(_AHEAD) as pool:
            while batch := list(islice(remaining, _AHEAD)):
                if done:
                    check_deadline()
                found = dict(zip(batch, pool.map(open_one, batch), strict=True))
                self._unreadable |= {index: bad for index, bad in found.items() if isinstance(bad, DataError)}
                yield {index: good for index, good in found.items() if not isinstance(good, DataError)}
                done += len(batch)
                if total is not None and total > _AHEAD:
                    report(Progress("plan", "shard", min(done, total), total))

    @property
    def cells_seen(self) -> int:
        """Cells of all shards that were opened."""
        return sum(self._cells.values())

    def with_cells(self, samples: int | Literal["all"]) -> dict[int, Shard]:
        """Give as many shards, from the first on, as hold so many cells, by index."""
        shards: dict[int, Shard] = {}
        cells = 0
        for batch in self.visit(lambda _, shard: shard.describe(), range(len(self))):
            shards |= batch
            cells += sum(sum(shard.group_rows) for shard in batch.values())
            if samples != ALL and cells >= samples:
                break
        self.require(shards)
        return shards

    def first(self) -> Shard:
        """Give the first shard that can be read."""
        for index in range(len(self)):
            for found in self.visit(lambda _, shard: shard.describe(), [index]):
                if found:
                    return found[index]
        raise next(iter(self._unreadable.values()))

    def require(self, found: dict[int, R]) -> None:
        """Raise why no shard can be read, if that is why nothing was found."""
        if not found and self._unreadable:
            raise next(iter(self._unreadable.values()))

    def skipped(self, usual: int) -> tuple[Skipped, ...]:
        """Shards that cannot be read, each with as many cells as others give."""
        return tuple(
            Skipped(shard=name_within(self.urls[index], self.dataset), row=0, rows=usual, reason=str(error))
            for index, error in sorted(self._unreadable.items())
        )
