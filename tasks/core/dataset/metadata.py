"""What is asked of the cells' metadata, read from as few columns and row groups of a shard as that takes."""

from collections.abc import Container
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tasks.core.base.errors import DataError, SettingsError
from tasks.core.dataset.bounds import Bounds
from tasks.core.dataset.joins import Side, join
from tasks.core.dataset.shard import OpenShard
from tasks.core.dataset.where import Condition, check_columns, columns_of, rows_that_match

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Found:
    """Rows of a shard that match, in order, and for each the value by which it is grouped, if it is."""

    rows: Rows
    values: Any


class Question:
    """Which cells match, and what group each is of.

    Args:
        where: the condition that they are to meet, if any.
        per: the column that groups them, if any.
        kinds: type of each metadata column of the dataset.
        sides: tables to join to them.
        given: the condition as it was given, for messages.

    Raises:
        SettingsError: a column is not there, or cannot be compared so.
    """

    def __init__(
        self,
        where: Condition | None,
        per: str | None,
        kinds: dict[str, pa.DataType],
        sides: tuple[Side, ...],
        given: str,
    ) -> None:
        joined = {name: side for side in sides for name in side.adds}
        known = kinds | {name: side.table.schema.field(name).type for name, side in joined.items()}
        if where is not None:
            check_columns(where, known, given)
        if per is not None and per not in known:
            raise SettingsError(f"--per {per}: there is no such column; there are {', '.join(known)}")
        asked = dict.fromkeys((*(columns_of(where) if where else ()), *((per,) if per else ())))
        self._where = where
        self._per = per
        self._sides = tuple(side for side in sides if any(joined.get(name) is side for name in asked))
        self._joined = frozenset(joined)
        raw = dict.fromkeys(joined[name].on if name in joined else name for name in asked)
        self._schema = pa.schema([pa.field(name, kinds[name]) for name in raw])

    def look(self, shard: OpenShard, group: int, full: Container[str]) -> Found:
        """Look at a row group.

        Args:
            shard: where it is.
            group: its index.
            full: groups of cells, by `name_of`, of which no more are wanted: rows may be left out for that.

        Raises:
            DataError: the shard lacks a column, or a column cannot be decoded.
        """
        begin, rows = sum(shard.group_rows[:group]), shard.group_rows[group]
        bounds = self._bounds(shard, group)
        if self._is_ruled_out(bounds, full):
            return self._found(begin, np.empty(0, np.int64), None)
        table = join(self._read(shard, group, rows, bounds), self._sides)
        here = np.arange(rows) if self._where is None else np.flatnonzero(rows_that_match(self._where, table))
        return self._found(begin, here, table)

    def look_at_all(self, shard: OpenShard, most: int | None, full: Container[str]) -> Found:
        """Look at the row groups of a shard, until so many rows are found."""
        found: list[Found] = []
        for group in range(len(shard.group_rows)):
            found.append(self.look(shard, group, full))
            if most is not None and sum(len(part.rows) for part in found) >= most:
                break
        values = [part.values for part in found if part.values is not None]
        rows = [np.empty(0, np.int64), *(part.rows for part in found)]
        return Found(np.concatenate(rows), pa.chunked_array(values).combine_chunks() if values else None)

    def _found(self, begin: int, here: Rows, table: pa.Table | None) -> Found:
        if table is None or self._per is None:
            return Found(begin + here, None)
        return Found(begin + here, table.column(self._per).combine_chunks().take(here))

    def _bounds(self, shard: OpenShard, group: int) -> dict[str, Bounds]:
        missing = [name for name in self._schema.names if name not in shard.schema.names]
        if missing:
            raise DataError(f"shard {shard.name} has no column {', '.join(map(repr, missing))}")
        # Where a shard has another type, its values are converted, and the order may be another.
        same = {field.name for field in self._schema if shard.schema.field(field.name).type == field.type}
        return {name: shard.bounds(group, name) if name in same else Bounds() for name in self._schema.names}

    def _is_ruled_out(self, bounds: dict[str, Bounds], full: Container[str]) -> bool:
        of_group = None if self._per is None else bounds.get(self._per)
        if of_group is not None and of_group.constant and name_of(of_group.low) in full:
            return True
        known = bounds | dict.fromkeys(self._joined, Bounds())
        return self._where is not None and True not in self._where.outcomes(known)

    def _read(self, shard: OpenShard, group: int, rows: int, bounds: dict[str, Bounds]) -> pa.Table:
        constant = {
            field.name: pa.repeat(pa.scalar(bounds[field.name].low, field.type), rows)
            for field in self._schema
            if bounds[field.name].constant and not pa.types.is_dictionary(field.type)
        }
        others = pa.schema([field for field in self._schema if field.name not in constant])
        if others.names:
            read = shard.read(group, others)
            constant |= {name: read.column(name) for name in others.names}
        return pa.table(constant, schema=self._schema)


def name_of(value: object) -> str:
    """Name a group of cells by the value that they share: no two values have the same, and null and NaN have one."""
    return repr(value)


def names_and_codes(values: Any) -> tuple[list[str], npt.NDArray[np.int64]]:
    """Names of the groups among values, and which of them each value is of."""
    encoded = values.dictionary_encode(null_encoding="encode")
    return [name_of(value) for value in encoded.dictionary.to_pylist()], encoded.indices.to_numpy().astype(np.int64)
