"""Metadata columns as codes: what batches and comparisons are made of."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from tasks.core.base.errors import SettingsError
from tasks.core.base.recipes import Recipe
from tasks.core.numerics.block import IntArray, decode_table, narrow
from tasks.core.references.cells import Cells, Plan
from tasks.core.storage.store import Store

# How a cell without a value is told of.
NO_VALUE = "(none)"
_MOST_VALUES = 5_000


@dataclass(frozen=True)
class Column:
    """One metadata column of all cells.

    Attributes:
        values: that occur, ascending, as text.
        codes: for each partition, the place of each cell's value among them.
    """

    name: str
    values: tuple[str, ...]
    codes: tuple[IntArray, ...]

    @property
    def counts(self) -> IntArray:
        """(values,) cells of each value."""
        return np.bincount(np.concatenate(self.codes), minlength=len(self.values))


def check_columns(plan: Plan, recipe: Recipe) -> None:
    """Refuse columns that the cells do not have.

    Raises:
        SettingsError: names the setting, the column and those there are.
    """
    asked = {"batch": [recipe.batch_column] if recipe.batch_column else [], "compare": list(recipe.compared)}
    for setting, names in asked.items():
        for name in names:
            if name not in plan.columns:
                raise SettingsError(
                    f"--{setting} {name}: the cells have no such column; they have {', '.join(plan.columns)}, or none"
                )


def read_column(store: Store, partitions: Sequence[Cells], name: str) -> Column:
    """Read one metadata column of all cells.

    Raises:
        SettingsError: it has too many values to be one of groups.
    """
    encoded = [_encode(store, part, name) for part in partitions]
    values = sorted({value for of_part, _ in encoded for value in of_part})
    if len(values) > _MOST_VALUES:
        raise SettingsError(
            f"column '{name}' has {len(values):,} values, more than the {_MOST_VALUES:,} that groups may be"
        )
    place = {value: at for at, value in enumerate(values)}
    codes = tuple(
        narrow(np.array([place[value] for value in of_part], np.int64)[within]) for of_part, within in encoded
    )
    return Column(name, tuple(values), codes)


def read_batches(store: Store, partitions: Sequence[Cells], recipe: Recipe) -> Column | None:
    """Read the batches of all cells, if they come in batches.

    Raises:
        SettingsError: all cells are of one batch, or one of them has a single cell.
    """
    if recipe.batch_column is None:
        return None
    column = read_column(store, partitions, recipe.batch_column)
    if len(column.values) == 1:
        raise SettingsError(
            f"--batch {column.name}: all cells have the value '{column.values[0]}', and batches must be two or more; "
            f"--sampling spread takes cells from all over the dataset, --batch none --correction none goes without"
        )
    alone = [value for value, cells in zip(column.values, column.counts, strict=True) if cells == 1]
    if alone:
        raise SettingsError(
            f"--batch {column.name}: '{alone[0]}' has a single cell, whose own cannot be told from its batch's; "
            "--where leaves it out, or take more cells"
        )
    return column


def _encode(store: Store, part: Cells, name: str) -> tuple[list[str], IntArray]:
    column = decode_table(store.get(part.metadata)).column(name)
    texts = column.cast(pa.string()).combine_chunks().fill_null(NO_VALUE).dictionary_encode()
    return texts.dictionary.to_pylist(), texts.indices.to_numpy()
