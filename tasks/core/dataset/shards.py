"""The shards of a dataset, opened several at a time."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Literal, TypeVar

from tasks.core.base.errors import DataError
from tasks.core.base.progress import Progress, report
from tasks.core.base.settings import ALL
from tasks.core.dataset.cells import EXPRESSIONS, GENES
from tasks.core.dataset.place import Place
from tasks.core.dataset.shard import OpenShard, Shard, open_shard
from tasks.core.references.cells import Skipped

R = TypeVar("R")
# Shards read at the same time; a footer is a few requests on the Hub.
_AHEAD = 8


class Shards:
    """Opens shards, and notes those that cannot be read where bad data is to be skipped.

    Args:
        place: of the dataset.
        names: of all its shards, in stream order.
        skips: whether a shard that cannot be read is left out, or an error.
    """

    def __init__(self, place: Place, names: Sequence[str], *, skips: bool) -> None:
        self.place = place
        self.names = names
        self._skips = skips
        self._unreadable: dict[int, DataError] = {}
        self._cells: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self.names)

    def visit(
        self, function: Callable[[int, OpenShard], R], indices: Iterable[int], total: int | None = None
    ) -> Iterator[dict[int, R]]:
        """Yield `function(index, shard)` by index, in the indices' order, some shards at a time.

        Args:
            function: called on threads.
            indices: of the shards to open.
            total: how many shards there are, where progress is to be told.

        Raises:
            DataError: a shard cannot be decoded or has no counts, and is not to be skipped; or no first one can be.
        """

        def open_one(index: int) -> R | DataError:
            try:
                try:
                    return self._look(function, index)
                except DataError:
                    # It may be bad only as it came this time.
                    return self._look(function, index)
            except DataError as error:
                if not self._skips:
                    raise
                return error

        remaining = iter(indices)
        done = 0
        with ThreadPoolExecutor(_AHEAD) as pool:
            while batch := list(islice(remaining, _AHEAD)):
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
        total = len(self) if samples == ALL else None
        for batch in self.visit(lambda _, shard: shard.describe(), range(len(self)), total):
            shards |= batch
            cells += sum(sum(shard.group_rows) for shard in batch.values())
            if samples != ALL and cells >= samples:
                break
        self.require(shards)
        return shards

    def require(self, found: dict[int, R]) -> None:
        """Raise why no shard can be read, if that is why nothing was found."""
        if not found and self._unreadable:
            raise next(iter(self._unreadable.values()))

    def skipped(self, usual: int) -> tuple[Skipped, ...]:
        """Shards that cannot be read, each with as many cells as others give."""
        return tuple(
            Skipped(shard=self.names[index], row=0, rows=usual, reason=str(error))
            for index, error in sorted(self._unreadable.items())
        )

    def _look(self, function: Callable[[int, OpenShard], R], index: int) -> R:
        with open_shard(self.place, self.names[index]) as shard:
            missing = [column for column in (GENES, EXPRESSIONS) if column not in shard.schema.names]
            if missing:
                columns = ", ".join(shard.schema.names)
                raise DataError(f"shard {shard.name} has no column '{missing[0]}'; it has {columns}")
            self._cells[index] = sum(shard.group_rows)
            return function(index, shard)
