"""What is asked of the cells' metadata, read from as few columns and row groups of a shard as that takes."""

from collections.abc import Container, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tasks.core.base.errors import SettingsError
from tasks.core.dataset.bounds import Bounds
from tasks.core.dataset.joins import Side, join
from tasks.core.dataset.kinds import conform, is_text, readable
from tasks.core.dataset.reading import translated
from tasks.core.dataset.shard import OpenShard
from tasks.core.dataset.where import Where

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Found:
    """Rows of a shard that match, in order, and for each the value by which it is grouped, if it is."""

    rows: Rows
    values: Any

    @classmethod
    def join(cls, parts: "Sequence[Found]") -> "Found":
        """Put what was found in parts of a shard below each other."""
        values = [part.values for part in parts if part.values is not None]
        rows = [np.empty(0, np.int64), *(part.rows for part in parts)]
        return cls(np.concatenate(rows), pa.chunked_array(values).combine_chunks() if values else None)


class Question:
    """Which cells match, and what group each is of.

    Args:
        where: the condition that they are to meet, if any.
        per: the column that groups them, if any.
        kinds: type of each metadata column of the dataset.
        sides: tables to join to them.

    Raises:
        SettingsError: a column is not there, or cannot be compared so.
    """

    def __init__(
        self,
        where: Where | None,
        per: str | None,
        kinds: dict[str, pa.DataType],
        sides: tuple[Side, ...],
    ) -> None:
        joined = {name: side for side in sides for name in side.adds}
        known = kinds | {name: side.table.schema.field(name).type for name, side in joined.items()}
        if where is not None:
            where.check(known)
        if per is not None and per not in known:
            raise SettingsError(f"--per {per}: there is no such column; there are {', '.join(known)}")
        asked = dict.fromkeys((*(where.columns if where else ()), *((per,) if per else ())))
        self._where = where
        self._per = per
        self._sides = tuple(side for side in sides if any(joined.get(name) is side for name in asked))
        self._joined = frozenset(joined)
        raw = dict.fromkeys(joined[name].on if name in joined else name for name in asked)
        self._kinds = {name: kinds[name] for name in raw}

    def look(self, shard: OpenShard, group: int, full: Container[str]) -> Found:
        """Look at a row group.

        Args:
            shard: where it is.
            group: its index.
            full: groups of cells, by `name_of`, of which no more are wanted: rows may be left out for that.

        Raises:
            DataError: a column cannot be decoded, or holds what the other shards do not.
        """
        begin = sum(shard.group_rows[:group])
        bounds = self._bounds(shard, group)
        if self._is_ruled_out(bounds, full):
            return Found(np.empty(0, np.int64), None)
        constant = {name for name, known in bounds.items() if known.constant}
        found: list[Found] = []
        others = [name for name in self._kinds if name not in constant]
        with translated(shard.place.name, f"shard {shard.name}, row group {group:,}: its {', '.join(others)}"):
            for table in shard.batches([group], others):
                found.append(self._found(begin, self._described(table, bounds, constant, shard)))
                begin += table.num_rows
        return Found.join(found)

    def look_at_all(self, shard: OpenShard, most: int | None, full: Container[str]) -> Found:
        """Look at the row groups of a shard, until so many rows are found."""
        found: list[Found] = []
        for group in range(len(shard.group_rows)):
            found.append(self.look(shard, group, full))
            if most is not None and sum(len(part.rows) for part in found) >= most:
                break
        return Found.join(found)

    def _found(self, begin: int, table: pa.Table) -> Found:
        here = np.arange(table.num_rows) if self._where is None else np.flatnonzero(self._where.holds(table))
        return Found(begin + here, None if self._per is None else table.column(self._per).combine_chunks().take(here))

    def _bounds(self, shard: OpenShard, group: int) -> dict[str, Bounds]:
        return {
            name: shard.bounds(group, name) if name in shard.schema.names and self._is_same(shard, name) else Bounds()
            for name in self._kinds
        }

    def _is_same(self, shard: OpenShard, name: str) -> bool:
        """Whether a shard's values, and their order, are those that it is asked for: others are converted."""
        kind = shard.schema.field(name).type
        return kind == self._kinds[name] or (is_text(kind) and is_text(self._kinds[name]))

    def _is_ruled_out(self, bounds: dict[str, Bounds], full: Container[str]) -> bool:
        of_group = None if self._per is None else bounds.get(self._per)
        if of_group is not None and of_group.constant and name_of(of_group.low) in full:
            return True
        known = bounds | dict.fromkeys(self._joined, Bounds())
        return self._where is not None and not self._where.may_hold(known)

    def _described(self, table: pa.Table, bounds: dict[str, Bounds], constant: set[str], shard: OpenShard) -> pa.Table:
        """Rows of a shard with all that is asked of them, of the types that a table of cells has."""
        for name in constant:
            table = table.append_column(name, pa.repeat(pa.scalar(bounds[name].low, self._kinds[name]), table.num_rows))
        return join(readable(conform(table, self._kinds, f"shard {shard.name}")), self._sides)


def name_of(value: object) -> str:
    """Name a group of cells by the value that they share: no two values have the same, and null and NaN have one."""
    return repr(value)


def names_and_codes(values: Any) -> tuple[list[str], npt.NDArray[np.int64]]:
    """Names of the groups among values, and which of them each value is of."""
    encoded = values.dictionary_encode(null_encoding="encode")
    groups = encoded.dictionary
    # Python does not have all times that Arrow has.
    groups = groups.cast(pa.string()) if pa.types.is_temporal(groups.type) else groups
    return [name_of(value) for value in groups.to_pylist()], encoded.indices.to_numpy().astype(np.int64)
