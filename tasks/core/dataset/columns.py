"""Metadata columns as codes: what batches and comparisons are made of."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from tasks.core.base.errors import SettingsError
from tasks.core.base.recipes import Recipe
from tasks.core.numerics.block import IntArray, decode_table, narrow
from tasks.core.numerics.fold import Blocks
from tasks.core.references.cells import Cells, Plan
from tasks.core.storage.store import ObjectRef, Store

# How a cell without a value is told of.
NO_VALUE = "(none)"
_MOST_VALUES = 5_000


@dataclass(frozen=True)
class Column:
    """One metadata column of all cells.

    Attributes:
        values: that occur, ascending, as text.
        counts: cells of each value.
        codes: the place of each cell's value among them, a block a partition.
    """

    name: str
    values: tuple[str, ...]
    counts: tuple[int, ...]
    codes: Blocks[IntArray]


def check_columns(plan: Plan, recipe: Recipe) -> None:
    """Refuse columns that the cells do not have.

    Raises:
        SettingsError: names the setting, the column and those there are.
    """
    asked = {"batch": [recipe.batch_column] if recipe.batch_column else [], "compare": list(recipe.compared)}
    for setting, names in asked.items():
        for name in names:
            if name in plan.left_out:
                raise SettingsError(f"--{setting} {name}: the column is left out: {plan.left_out[name]}")
            if name not in plan.columns:
                raise SettingsError(
                    f"--{setting} {name}: the cells have no such column; they have {', '.join(plan.columns)}, or none"
                )


def read_column(store: Store, partitions: Sequence[Cells], name: str, workers: int) -> Column:
    """Look which values a metadata column of all cells has; the codes are read whenever they are needed.

    Raises:
        SettingsError: it has too many values to be one of groups.
    """
    texts = _texts(store, partitions, name, workers)
    counts: Counter[str] = Counter()
    for of_part in texts.map(lambda part: {one["values"]: one["counts"] for one in part.value_counts().to_pylist()}):
        counts.update(of_part)
        if len(counts) > _MOST_VALUES:
            raise SettingsError(
                f"column '{name}' has {len(counts):,} values or more, and groups may be {_MOST_VALUES:,} at most"
            )
    values = tuple(sorted(counts))
    place = {value: at for at, value in enumerate(values)}
    # By itself: what reads a partition goes to other processes, and need not take all partitions along.
    read = texts.read

    def codes(source: Any) -> IntArray:
        encoded = read(source).dictionary_encode()
        places = np.array([place[value] for value in encoded.dictionary.to_pylist()], np.int64)
        return narrow(places[encoded.indices.to_numpy()])

    return Column(name, values, tuple(counts[value] for value in values), replace(texts, read=codes))


def read_batches(store: Store, partitions: Sequence[Cells], recipe: Recipe, workers: int) -> Column | None:
    """Look which batches all cells come in, if they come in batches.

    Raises:
        SettingsError: all cells are of one batch, or one of them has a single cell.
    """
    if recipe.batch_column is None:
        return None
    column = read_column(store, partitions, recipe.batch_column, workers)
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


def _texts(store: Store, partitions: Sequence[Cells], name: str, workers: int) -> Blocks[Any]:
    def read(ref: ObjectRef) -> Any:
        column = decode_table(store.get(ref)).column(name)
        return column.cast(pa.string()).combine_chunks().fill_null(NO_VALUE)

    return Blocks(
        sources=[part.metadata for part in partitions],
        names=[store.locate(part.metadata.path) for part in partitions],
        rows=[part.cells for part in partitions],
        read=read,
        workers=workers,
    )
