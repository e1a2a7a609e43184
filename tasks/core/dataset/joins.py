"""The dataset's own tables of samples, drugs and cell lines, joined to the cells' metadata."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tasks.core.base.errors import SettingsError, SourceError
from tasks.core.dataset.cells import VEHICLE
from tasks.core.dataset.doses import parse_doses
from tasks.core.dataset.kinds import conform, readable, table_kind
from tasks.core.dataset.place import Place
from tasks.core.dataset.reading import translated
from tasks.core.dataset.shard import read_table
from tasks.core.numerics.block import decode_table, encode_table
from tasks.core.references.cells import Lookup
from tasks.core.storage.store import Store

SAMPLES, DRUGS, LINES = "sample_metadata", "drug_metadata", "cell_line_metadata"
DOSE, DOSE_UNIT, DRIVERS = "dose", "dose_unit", "drivers"
_DRUG_COLUMNS = ("targets", "moa-broad", "human-approved", "clinical-trials")
_LINE_COLUMNS = ("cell_name", "Organ")
_CONCENTRATION = "drugname_drugconc"
# Columns of a cell line's table that describe a mutation; of the effect, the first that is there is told.
_GENE, _EFFECTS = "Driver_Gene_Symbol", ("Driver_ProtEffect_or_CdnaEffect", "Driver_VarType")


@dataclass(frozen=True)
class Side:
    """A table ready to be joined.

    Attributes:
        on: the cells' column that it is found by.
        table: a column of keys named so, each once and without spaces around it, and the columns that it adds.
    """

    on: str
    table: pa.Table

    @property
    def adds(self) -> tuple[str, ...]:
        """Columns that it adds."""
        return tuple(name for name in self.table.column_names if name != self.on)


@dataclass(frozen=True)
class _Kind:
    """What is known of one of the tables: its key, the cells' columns that may hold it, and how it is read."""

    key: str
    on: tuple[str, ...]
    prepare: Callable[[pa.Table, list[str]], dict[str, Any]]


def read_sides(place: Place, cell_columns: Sequence[str]) -> tuple[tuple[Side, ...], tuple[str, ...]]:
    """Read the dataset's own tables; give them ready to be joined, and what a person should know of them.

    Columns that the cells have already are not added.

    Raises:
        SettingsError: the dataset has none of the tables, or its cells no column to join them by.
        SourceError: a table has no key.
    """
    notes: list[str] = []
    sides: list[Side] = []
    taken = set(cell_columns)
    for name, kind in _KINDS.items():
        table = read_table(place, name)
        on = next((column for column in kind.on if column in cell_columns), None)
        if table is None:
            notes.append(f"the dataset has no table {name}")
        elif on is None:
            notes.append(f"the cells have no column {' or '.join(kind.on)} to join {name} by")
        else:
            with translated(place.name, f"its table '{name}'"):
                side = _prepare(name, kind, on, _flat(table, name, notes), taken, notes)
            taken |= set(side.adds)
            sides.append(side)
    if not sides:
        raise SettingsError(f"--join: '{place.name}' has nothing to join: {'; '.join(notes)}")
    return tuple(sides), tuple(notes)


def join(cells: pa.Table, sides: Sequence[Side]) -> pa.Table:
    """Add the sides' columns to a table of cells, by their keys with spaces around them left out."""
    for side in sides:
        found = _places(cells, side)
        for name in side.adds:
            cells = cells.append_column(name, side.table.column(name).take(found))
    return cells


def unmatched(cells: pa.Table, sides: Sequence[Side]) -> dict[str, int]:
    """Cells whose key is in no row of a side, by the key's column; the vehicle is no drug that should be there."""
    counts = {}
    for side in sides:
        missing = pc.is_null(_places(cells, side))
        vehicle = pc.fill_null(pc.equal(_key(cells, side.on), VEHICLE), False)
        counts[side.on] = int(pc.sum(pc.and_not(missing, vehicle)).as_py() or 0)
    return {on: count for on, count in counts.items() if count}


def put_sides(store: Store, sides: Sequence[Side]) -> tuple[Lookup, ...]:
    """Leave tables in the store."""
    return tuple(
        Lookup(
            on=side.on,
            adds=side.adds,
            table=store.keep("joined", "table.arrow", encode_table(side.table), side.table.num_rows),
        )
        for side in sides
    )


def get_sides(store: Store, lookups: Sequence[Lookup]) -> tuple[Side, ...]:
    """Give the tables that were left in the store."""
    return tuple(Side(lookup.on, decode_table(store.get(lookup.table))) for lookup in lookups)


def _places(cells: pa.Table, side: Side) -> Any:
    """(cells,) row of the side for each cell, null where there is none."""
    return pc.index_in(_key(cells, side.on), value_set=side.table.column(side.on).combine_chunks(), skip_nulls=True)


def _key(table: pa.Table, name: str) -> Any:
    return pc.utf8_trim_whitespace(table.column(name).combine_chunks().cast(pa.string()))


def _prepare(name: str, kind: _Kind, on: str, table: pa.Table, taken: set[str], notes: list[str]) -> Side:
    if kind.key not in table.column_names:
        raise SourceError(f"the dataset's table {name} has no column '{kind.key}'; it has {_listed(table)}")
    keys = _key(table, kind.key)
    table = table.set_column(table.column_names.index(kind.key), kind.key, keys)
    columns = kind.prepare(table.filter(pc.is_valid(keys)), notes)
    kept = [column for column in columns if column in taken and column != kind.key]
    if kept:
        notes.append(f"the cells' own {', '.join(kept)} are kept, not those of {name}")
    added = {column: values for column, values in columns.items() if column not in taken and column != kind.key}
    return Side(on, _first_of_each(name, on, pa.table({on: columns[kind.key]} | added), notes))


def _first_of_each(name: str, on: str, table: pa.Table, notes: list[str]) -> pa.Table:
    first: dict[str, int] = {}
    for row, key in enumerate(table.column(on).to_pylist()):
        first.setdefault(key, row)
    if len(first) < table.num_rows:
        notes.append(f"{name} names {table.num_rows - len(first):,} keys again: the first row of each is taken")
    return table.take(pa.array(first.values(), pa.int64()))


def _of_samples(table: pa.Table, notes: list[str]) -> dict[str, Any]:
    columns: dict[str, Any] = {"sample": table.column("sample")}
    if _CONCENTRATION in table.column_names:
        written = table.column(_CONCENTRATION).cast(pa.string()).to_pylist()
        doses = parse_doses(written)
        columns |= {
            DOSE: pa.array([dose for dose, _ in doses], pa.float64()),
            DOSE_UNIT: pa.array([unit for _, unit in doses], pa.string()),
        }
        unread = sum(text is not None and dose is None for text, (dose, _) in zip(written, doses, strict=True))
        if unread:
            notes.append(f"{unread:,} of {len(written):,} samples have a {_CONCENTRATION} without one dose: null")
    return columns


def _of_drugs(table: pa.Table, _notes: list[str]) -> dict[str, Any]:
    return {"drug": table.column("drug")} | _as_they_are(table, _DRUG_COLUMNS)


def _of_lines(table: pa.Table, _notes: list[str]) -> dict[str, Any]:
    """One row a line of a table with one a line and mutation."""
    key = _KINDS[LINES].key
    rows: dict[str, list[int]] = {}
    for row, line in enumerate(table.column(key).to_pylist()):
        rows.setdefault(line, []).append(row)
    columns = {key: pa.array(list(rows), pa.string())}
    firsts = table.take(pa.array([of_line[0] for of_line in rows.values()], pa.int64()))
    columns |= _as_they_are(firsts, _LINE_COLUMNS)
    if _GENE in table.column_names:
        told = _as_they_are(table, (_GENE, *_EFFECTS))
        mutations = [
            _mutation(dict(zip(told, row, strict=True))) for row in zip(*map(_to_list, told.values()), strict=True)
        ]
        columns[DRIVERS] = pa.array(
            [_joined(mutations[row] for row in of_line) for of_line in rows.values()], pa.string()
        )
    return columns


def _mutation(of_row: Mapping[str, str | None]) -> str | None:
    effect = next((of_row[name] for name in _EFFECTS if of_row.get(name)), None)
    gene = of_row[_GENE]
    return f"{gene} {effect}" if gene and effect else gene


def _joined(mutations: Any) -> str | None:
    return "; ".join(dict.fromkeys(filter(None, mutations))) or None


def _to_list(column: Any) -> list[Any]:
    values: list[Any] = column.to_pylist()
    return values


def _as_they_are(table: pa.Table, names: Sequence[str]) -> dict[str, Any]:
    return {name: table.column(name) for name in names if name in table.column_names}


def _flat(table: pa.Table, name: str, notes: list[str]) -> pa.Table:
    """Give columns that fit a table of cells: lists become text, texts are UTF-8."""
    for at, field in enumerate(table.schema):
        if pa.types.is_nested(field.type):
            texts = [None if item is None else ", ".join(map(str, item)) for item in table.column(at).to_pylist()]
            table = table.set_column(at, field.name, pa.array(texts, pa.string()))
    kinds = {field.name: kind for field in table.schema if (kind := table_kind(field.type)) is not None}
    held = conform(table, kinds, f"table {name}")
    told = readable(held)
    if told is not held:
        notes.append(f"{name} has texts that are not UTF-8: U+FFFD stands for what cannot be read")
    return told


def _listed(table: pa.Table) -> str:
    return ", ".join(table.column_names)


_KINDS = {
    SAMPLES: _Kind("sample", ("sample",), _of_samples),
    DRUGS: _Kind("drug", ("drug",), _of_drugs),
    LINES: _Kind("Cell_ID_Cellosaur", ("cell_line_id", "cell_line"), _of_lines),
}
