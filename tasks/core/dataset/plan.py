"""From a dataset to the partitions that a run will read."""

import hashlib
import os
import re
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tasks.core.base.errors import SettingsError, SourceError, StoreError
from tasks.core.base.settings import ALL, SYNTHETIC, RunSettings, Settings
from tasks.core.dataset.cells import EXPRESSIONS, GENES
from tasks.core.dataset.choice import choose_cells
from tasks.core.dataset.joins import Side, put_sides, read_sides
from tasks.core.dataset.kinds import changes, check_values, common_kind, conform, table_kind
from tasks.core.dataset.metadata import Question
from tasks.core.dataset.partitions import Picked, cut, cut_short
from tasks.core.dataset.place import GENES_TABLE, Place, resolve, shard_names, table_name
from tasks.core.dataset.reading import in_little_memory
from tasks.core.dataset.shard import Shard, read_table
from tasks.core.dataset.shards import Shards
from tasks.core.dataset.synthetic import VERSION as SIMULATION
from tasks.core.dataset.synthetic import write_dataset
from tasks.core.dataset.where import Where, as_given
from tasks.core.numerics.block import decode_table, encode_table
from tasks.core.numerics.quality import COUNTS_COLUMN, GENES_COLUMN, MITO_COLUMN
from tasks.core.references.cells import Partition, Plan, Vocabulary
from tasks.core.storage.store import Store, store_of

# Objects written at the same time.
_WRITES_AT_ONCE = 8
# A table is kept with a place for each token up to the largest.
_MAX_TOKEN = 2**24
# Columns that the results have beside the cells' metadata, and those where cells are left out for their quality.
_OWN_COLUMN = re.compile(r"pc\d+|cluster(_\d+)?|leiden")
_OF_QUALITY = (GENES_COLUMN, COUNTS_COLUMN, MITO_COLUMN)
SYMBOL, ENSEMBL, TOKEN = "gene_symbol", "ensembl_id", "token_id"


@dataclass(frozen=True)
class _Layout:
    """What the cells' metadata hold.

    Attributes:
        kinds: type of each column that cells can be chosen by.
        left_out: columns that are not in the tables of cells, with the reason.
        converted: columns that are not written as the shards have them, with what to know of them.
        sides: tables to be joined, and what to tell of them.
    """

    kinds: dict[str, pa.DataType]
    left_out: dict[str, str]
    converted: dict[str, str]
    sides: tuple[Side, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def read(self) -> dict[str, pa.DataType]:
        """Type that each column of the tables of cells gets."""
        return {name: kind for name, kind in self.kinds.items() if name not in self.left_out}

    @property
    def columns(self) -> tuple[str, ...]:
        """All metadata columns of a cell."""
        return (*self.read, *(name for side in self.sides for name in side.adds))


def make_plan(settings: RunSettings) -> Plan:
    """Resolve a dataset, and cut as many of its cells as asked for, the first or chosen ones, into partitions.

    Args:
        settings: of the run.

    Raises:
        SourceError: the dataset cannot be read or does not have the layout.
        SettingsError: simulated cells are asked for without end, or the cells are chosen in a way that cannot be or
            that leaves none.
    """
    with in_little_memory("planning"):
        condition = Where(settings.where) if settings.where else None
        place = resolve(locate_dataset(settings), settings.revision, settings.credentials)
        shards = Shards(place, shard_names(place), skips=settings.on_bad_data == "skip")
        wanted, layout = _wanted(shards, condition, settings)
        partitions = _cut(wanted, layout, place, settings)
        cells = sum(part.cells for part in partitions)
        return Plan(
            dataset=place.name,
            revision=place.revision or _digest(picked.shard.fingerprint for picked in wanted.values()),
            vocabulary=read_vocabulary(store_of(settings), place),
            columns=layout.columns,
            left_out=layout.left_out,
            converted=layout.converted,
            partitions=partitions,
            cells=cells,
            exhausted=settings.samples != ALL and cells < settings.samples,
            skipped=shards.skipped(sum(picked.cells for picked in wanted.values()) // len(wanted)),
            notes=layout.notes,
        )


def _wanted(shards: Shards, condition: Where | None, settings: RunSettings) -> tuple[dict[int, Picked], _Layout]:
    """Shards, by index, with the rows of them that are wanted, and what their metadata hold."""
    wanted: dict[int, Picked] = {}
    if condition is not None or settings.per is not None:
        # Only all shards tell which columns there are, and of which types; a bad one is told of where it is wanted.
        every = Shards(shards.place, shards.names, skips=True).with_cells(ALL)
        layout = _layout(every.values(), shards.place, settings)
        question = Question(condition, settings.per, layout.kinds, layout.sides)
        wanted = choose_cells(shards, question, settings)
        if not wanted:
            raise SettingsError(f"{as_given(settings.where)}: none of the {shards.cells_seen:,} cells match")
    elif settings.spreads and settings.samples != ALL:
        wanted = choose_cells(shards, None, settings)
    if not wanted:
        wanted = {index: Picked(shard) for index, shard in shards.with_cells(settings.samples).items()}
    return wanted, _layout([picked.shard for picked in wanted.values()], shards.place, settings)


def _cut(wanted: dict[int, Picked], layout: _Layout, place: Place, settings: RunSettings) -> tuple[Partition, ...]:
    store = store_of(settings)
    lookups = put_sides(store, layout.sides)

    def cut_one(picked: Picked) -> list[Partition]:
        common = {
            "dataset": place.name,
            "revision": place.revision,
            "metadata": {name: str(kind) for name, kind in layout.read.items()},
            "shard_name": picked.shard.name,
            "fingerprint": picked.shard.fingerprint,
            "lookups": lookups,
        }
        return cut(picked, settings.partition_cells, common, store)

    with ThreadPoolExecutor(_WRITES_AT_ONCE) as pool:
        parts = list(chain.from_iterable(pool.map(cut_one, wanted.values())))
    chosen = any(part.rows is not None for part in parts)
    return tuple(parts if chosen else cut_short(parts, settings.samples))


def check_sizes(cells: int, genes: int, settings: Settings) -> None:
    """Refuse what a matrix of so many cells and genes cannot give.

    Raises:
        SettingsError: more components or clusters are asked for than it has.
    """
    limit = min(cells, genes)
    if settings.pca_dim >= limit:
        raise SettingsError(
            f"--pca_dim {settings.pca_dim}: a matrix of {cells:,} cells and {genes:,} genes allows at most "
            f"{limit - 1:,} components"
        )
    if max(settings.cluster_numbers) > cells:
        raise SettingsError(f"--clusters {settings.clusters}: there are only {cells:,} cells")


def locate_dataset(settings: RunSettings) -> str:
    """Hugging Face id or folder of the cells; simulated ones are written first, where they are not there yet.

    They go into the store where it is a local folder, else into this user's cache.

    Raises:
        SettingsError: simulated cells are asked for without end.
        StoreError: they would be written behind a link.
    """
    if not settings.is_synthetic:
        return settings.dataset
    if settings.samples == ALL:
        raise SettingsError("--samples all: simulated cells have no end; say how many")
    files = store_of(settings).files
    folder = Path(files.root) if files.is_local else _user_cache()
    name = f"{SYNTHETIC}/version-{SIMULATION}-seed-{settings.seed}"
    if any(files.is_linked(f"{name}/{part}") for part in ("data", "metadata")):
        raise StoreError(f"{folder / name} lies behind a link or has one in it, and none is followed: remove that")
    return str(write_dataset(folder / name, settings.samples, settings.seed))


def _user_cache() -> Path:
    try:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tahoe-flow"
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):
        folder = Path(tempfile.gettempdir()) / f"tahoe-flow-{os.getuid()}"
    return folder


def read_vocabulary(store: Store, place: Place) -> Vocabulary:
    """Read a dataset's gene vocabulary, check it and put it in the store.

    Raises:
        SourceError: there is none, or it is not as `store_vocabulary` says.
        DataError: it cannot be decoded, or a text is not UTF-8.
    """
    genes = read_table(place, GENES_TABLE)
    if genes is None:
        raise SourceError(f"the gene vocabulary of '{place.name}', {table_name(GENES_TABLE)}, is not there")
    return store_vocabulary(store, genes, place.name)


def store_vocabulary(store: Store, genes: pa.Table, dataset: str) -> Vocabulary:
    """Check a gene vocabulary and put it in the store.

    Raises:
        SourceError: a column is missing, tokens or ids are missing or repeated, or tokens are out of range.
        DataError: a text is not UTF-8.
    """
    named = f"the gene vocabulary of '{dataset}'"
    missing = [name for name in (SYMBOL, ENSEMBL, TOKEN) if name not in genes.column_names]
    if missing:
        raise SourceError(f"{named} has no column {', '.join(map(repr, missing))}")
    kinds = {name: table_kind(genes.schema.field(name).type) for name in (SYMBOL, ENSEMBL, TOKEN)}
    if not pa.types.is_integer(kinds[TOKEN] or pa.null()):
        raise SourceError(f"{named} has a '{TOKEN}' of type {genes.schema.field(TOKEN).type}, not integers")
    texts = dict.fromkeys((SYMBOL, ENSEMBL), pa.string())
    genes = conform(genes, texts | {TOKEN: kinds[TOKEN]}, named)
    check_values(genes, named)
    for name in (ENSEMBL, TOKEN):
        column = genes.column(name)
        if column.null_count or len(column.unique()) != len(column):
            raise SourceError(f"{named} has a null or repeated '{name}'")
    if not genes.num_rows or not _are_tokens(genes.column(TOKEN).to_numpy()):
        raise SourceError(f"{named} has a '{TOKEN}' that is not from 0 to {_MAX_TOKEN:,}")
    data = encode_table(genes)
    key = hashlib.sha256(data).hexdigest()[:32]
    table = store.keep("vocabulary", "genes.arrow", data, genes.num_rows)
    return Vocabulary(key=key, genes=genes.num_rows, table=table)


def _are_tokens(tokens: npt.NDArray[np.integer[Any]]) -> bool:
    return bool(tokens.min() >= 0 and tokens.max() <= _MAX_TOKEN)


def column_of_token(store: Store, vocabulary: Vocabulary) -> npt.NDArray[np.int32]:
    """For each token from 0 on, the matrix column of its gene, or -1 where it names none."""
    tokens = decode_table(store.get(vocabulary.table)).column(TOKEN).to_numpy()
    columns = np.full(int(tokens.max()) + 1, -1, np.int32)
    columns[tokens] = np.arange(len(tokens), dtype=np.int32)
    return columns


def _layout(shards: Iterable[Shard], place: Place, settings: RunSettings) -> _Layout:
    """Say what the cells' metadata hold, by the footers of all shards that are read."""
    held: dict[str, dict[pa.DataType, str]] = {}
    for shard in shards:
        for field in shard.schema:
            if field.name not in (GENES, EXPRESSIONS):
                held.setdefault(field.name, {}).setdefault(field.type, shard.name)
    common = {name: common_kind(kinds) for name, kinds in held.items()}
    kinds = {name: kind for name, kind in common.items() if kind is not None}
    left_out = {name: _why_not(held[name]) for name in held if name not in kinds}
    converted = {name: told for name, kind in kinds.items() if (told := changes(held[name], kind)) is not None}
    of_quality = _OF_QUALITY if settings.recipe_in_full.checks_cells else ()
    own = [name for name in kinds if _OWN_COLUMN.fullmatch(name) or name in of_quality]
    left_out |= dict.fromkeys(own, "the results have a column of their own of this name")
    sides, notes = read_sides(place, tuple(kinds)) if settings.join else ((), ())
    return _Layout(kinds, left_out, converted, sides, notes)


def _why_not(held: dict[pa.DataType, str]) -> str:
    if len(held) == 1:
        return f"type {next(iter(held))}"
    return "; ".join(f"type {kind} in {shard}" for kind, shard in held.items() if table_kind(kind) is None)


def _digest(parts: Iterator[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:40]
