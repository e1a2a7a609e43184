"""Which cells a run reads, where it does not simply read the first ones: by their metadata, and from all over."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import count

import numpy as np

from tasks.core.base.settings import ALL, RunSettings
from tasks.core.dataset.metadata import Found, Question, names_and_codes
from tasks.core.dataset.partitions import Picked, Rows
from tasks.core.dataset.shard import OpenShard, Shard
from tasks.core.dataset.shards import Shards
from tasks.core.dataset.spread import draw_rows, even_order, evenly_spaced, rng_of, shards_for, share_out

# If too few cells match in the shards looked at, so many times as many are looked at: what they promise, within these.
_LEAST_GROWTH, _MOST_GROWTH = 1.25, 8.0


def choose_cells(shards: Shards, question: Question | None, settings: RunSettings) -> dict[int, Picked]:
    """Choose the cells of a run.

    Args:
        shards: of the dataset.
        question: which cells may be chosen; any if None.
        settings: of the run.

    Returns:
        By index of the shard, the rows chosen; fewer than `samples` where there are no more.
    """
    if question is None or (settings.spreads and settings.per is None and settings.samples != ALL):
        return _spread(shards, question, settings)
    if settings.spreads and settings.per is not None:
        return _first_of_spread_groups(shards, question, settings)
    return _first(shards, question, settings)


def _spread(shards: Shards, question: Question | None, settings: RunSettings) -> dict[int, Picked]:
    """Draw `samples` cells of shards and row groups that are spread evenly, in proportion to what each has.

    No more shards are opened than it takes.
    """
    samples, offset = int(settings.samples), rng_of(settings.seed).random()
    seen = _Seen(question)
    used = shards_for(samples, len(shards))
    while True:
        indices = evenly_spaced(len(shards), used, offset).tolist()
        new = [index for index in indices if index not in seen.known]
        for batch in shards.visit(seen.look, new, total=len(new) if question else None):
            seen.picked |= {index: picked for index, picked in batch.items() if picked.cells}
        sizes = {index: seen.picked[index].cells for index in indices if index in seen.picked}
        there = sum(sizes.values())
        if there >= samples or used == len(shards):
            break
        growth = 1.1 * samples / max(there, 1)
        used = min(len(shards), int(used * min(max(growth, _LEAST_GROWTH), _MOST_GROWTH)) + 1)
    shards.require(seen.picked)
    if not sizes:
        return {}
    shares = share_out(min(samples, there), np.array(list(sizes.values()))).tolist()
    return {
        index: _draw(seen.picked[index], share, settings.seed, index)
        for index, share in zip(sizes, shares, strict=True)
        if share
    }


def _first(shards: Shards, question: Question, settings: RunSettings) -> dict[int, Picked]:
    """Take the first cells that match, `at_most` of each group, until `samples` are found."""
    taking = _Taking(settings)
    # Of groups of cells it is not known beforehand how many will be taken.
    most = None if settings.per or settings.samples == ALL else settings.samples

    def look(_: int, shard: OpenShard) -> tuple[Found, Shard | None]:
        found = question.look_at_all(shard, most, taking.full)
        return found, shard.describe() if len(found.rows) else None

    for batch in shards.visit(look, range(len(shards)), total=len(shards)):
        for index, (found, shard) in batch.items():
            taking.take(index, shard, found)
        if taking.is_done:
            break
    return taking.picked(shards)


def _first_of_spread_groups(shards: Shards, question: Question, settings: RunSettings) -> dict[int, Picked]:
    """Take cells that match, `at_most` of each group, from one row group of each shard after another.

    Shards, and row groups in them, are taken in an evenly spread order, until `samples` are found, or all groups of
    cells that were met in a row group of every shard are full. As long as that will do, each row group gives but its
    share, so that the cells of each group come from many shards.
    """
    taking = _Taking(settings)
    order = even_order(len(shards), rng_of(settings.seed).random()).tolist()
    for most in (_Most.of_a_visit(settings, len(shards)), _ALL):
        for batch in _turns(shards, question, taking, order, settings.seed):
            for index, (found, shard) in batch.items():
                taking.take(index, shard, found, most)
            if taking.is_done:
                return taking.picked(shards)
        if taking.all_full:
            break
    return taking.picked(shards)


@dataclass
class _Seen:
    """Shards that were looked at, and the rows of each that may be chosen."""

    question: Question | None
    picked: dict[int, Picked] = field(default_factory=dict)
    known: set[int] = field(default_factory=set)

    def look(self, index: int, shard: OpenShard) -> Picked:
        self.known.add(index)
        if self.question is None:
            rows: Rows = np.arange(sum(shard.group_rows))
        else:
            rows = self.question.look_at_all(shard, None, ()).rows
        return Picked.of(shard.describe(), rows)


@dataclass(frozen=True)
class _Most:
    """The most cells to take at once, in all and of each group; None for as many as there are."""

    of_all: int | None = None
    of_each: int | None = None

    @classmethod
    def of_a_visit(cls, settings: RunSettings, shards: int) -> "_Most":
        """Give the share of each of the shards that are taken from."""
        samples = settings.samples
        of_all = None if samples == ALL else -(-samples // shards_for(samples, shards))
        return cls(of_all, None if settings.at_most is None else -(-settings.at_most // shards_for(1, shards)))


_ALL = _Most()


class _Taking:
    """Takes cells as they come, until there are enough: of all, and of each group.

    Attributes:
        full: groups of which there are enough.
    """

    def __init__(self, settings: RunSettings) -> None:
        self.full: set[str] = set()
        self._left = None if settings.samples == ALL else settings.samples
        self._at_most = settings.at_most
        self._counts: dict[str, int] = {}
        self._rows: dict[int, list[Rows]] = {}
        self._shards: dict[int, Shard] = {}

    @property
    def is_done(self) -> bool:
        """Whether there are as many cells as asked for."""
        return self._left == 0

    @property
    def all_full(self) -> bool:
        """Whether there are enough of each group that was met."""
        return bool(self._counts) and len(self.full) == len(self._counts)

    def take(self, index: int, shard: Shard | None, found: Found, most: _Most = _ALL) -> None:
        """Take of a shard's rows, the first ones first, no more than `most` says; `shard` is None if there are none."""
        if shard is None:
            return
        self._shards.setdefault(index, shard)
        kept = np.flatnonzero(~np.isin(found.rows, np.concatenate([[-1], *self._rows.get(index, [])])))
        names, codes = ([], kept) if found.values is None else names_and_codes(found.values)
        if found.values is not None:
            kept = kept[_rank_in_group(codes[kept]) < self._room(names, most.of_each)[codes[kept]]]
        kept = kept[: min([len(kept), *(bound for bound in (most.of_all, self._left) if bound is not None)])]
        self._rows.setdefault(index, []).append(found.rows[kept])
        if self._left is not None:
            self._left -= len(kept)
        self._count(names, np.bincount(codes[kept], minlength=len(names)) if names else ())

    def picked(self, shards: Shards) -> dict[int, Picked]:
        """Give what was taken, in the shards' order."""
        shards.require(self._shards)
        taken = {index: np.concatenate(self._rows[index]) for index in sorted(self._rows)}
        return {index: Picked.of(self._shards[index], rows) for index, rows in taken.items() if len(rows)}

    def _room(self, names: list[str], most: int | None) -> Rows:
        room = np.array([(self._at_most or 0) - self._counts.get(name, 0) for name in names], np.int64)
        return room if most is None else np.minimum(room, most)

    def _count(self, names: list[str], taken: Iterable[int]) -> None:
        for name, cells in zip(names, taken, strict=True):
            self._counts[name] = self._counts.get(name, 0) + int(cells)
            if self._counts[name] == self._at_most:
                self.full.add(name)


def _rank_in_group(codes: Rows) -> Rows:
    """For each row, how many rows of the same group are before it."""
    order = np.argsort(codes, kind="stable")
    begins = np.concatenate([[0], np.cumsum(np.bincount(codes))])
    ranks = np.empty_like(order)
    ranks[order] = np.arange(len(codes)) - begins[codes[order]]
    return ranks


def _turns(
    shards: Shards, question: Question, taking: _Taking, order: list[int], seed: int
) -> Iterator[dict[int, tuple[Found, Shard | None]]]:
    """Yield what is found in one row group of each shard, then in another one of each, and so on."""
    left = order
    for turn in count():
        more: list[int] = []
        for batch in shards.visit(_look_at_turn(turn, question, taking, seed), left, total=len(left)):
            more += [index for index, (_, _, groups) in batch.items() if turn + 1 < groups]
            yield {index: (found, shard) for index, (found, shard, _) in batch.items()}
        left = more
        if not left or taking.all_full:
            return


def _look_at_turn(
    turn: int, question: Question, taking: _Taking, seed: int
) -> Callable[[int, OpenShard], tuple[Found, Shard | None, int]]:
    def look(index: int, shard: OpenShard) -> tuple[Found, Shard | None, int]:
        groups = len(shard.group_rows)
        if not groups:
            return Found(np.empty(0, np.int64), None), None, 0
        group = int(even_order(groups, rng_of(seed, index).random())[turn])
        found = question.look(shard, group, taking.full)
        shuffled = rng_of(seed, index, group).permutation(len(found.rows))
        values = None if found.values is None else found.values.take(shuffled)
        return Found(found.rows[shuffled], values), shard.describe() if len(shuffled) else None, groups

    return look


def _draw(picked: Picked, share: int, seed: int, index: int) -> Picked:
    rows = picked.rows
    begins = np.cumsum(picked.shard.group_rows)
    return Picked.of(
        picked.shard, draw_rows(rows, np.searchsorted(begins, rows, side="right"), share, rng_of(seed, index))
    )
