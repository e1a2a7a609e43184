"""From a dataset to the partitions that a run will read."""

import hashlib
import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tasks.core.base.errors import SettingsError, SourceError
from tasks.core.base.settings import ALL, SYNTHETIC, RunSettings, Settings
from tasks.core.dataset import source
from tasks.core.dataset.cells import EXPRESSIONS, GENES
from tasks.core.dataset.choice import choose_cells
from tasks.core.dataset.joins import Side, put_sides, read_sides
from tasks.core.dataset.metadata import Question
from tasks.core.dataset.partitions import Picked, cut, cut_short
from tasks.core.dataset.shards import Shards
from tasks.core.dataset.synthetic import VERSION as SIMULATION
from tasks.core.dataset.synthetic import write_dataset
from tasks.core.dataset.where import Condition
from tasks.core.dataset.where_syntax import as_given, parse
from tasks.core.numerics.block import decode_table, encode_table
from tasks.core.references.cells import Partition, Plan, Vocabulary
from tasks.core.storage.store import Store, store_of

# Objects written at the same time.
_WRITES_AT_ONCE = 8
# A table is kept with a place for each token up to the largest.
_MAX_TOKEN = 2**24
# Columns that the results have beside the cells' metadata.
_OWN_COLUMN = re.compile(r"pc\d+|cluster(_\d+)?|leiden")
SYMBOL, ENSEMBL, TOKEN = "gene_symbol", "ensembl_id", "token_id"


@dataclass(frozen=True)
class _Layout:
    """What the cells' metadata hold.

    Attributes:
        kinds: type of each column that is read.
        left_out: columns that no table of cells can hold, with the reason.
        sides: tables to be joined, and what to tell of them.
    """

    kinds: dict[str, pa.DataType]
    left_out: dict[str, str]
    sides: tuple[Side, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """All metadata columns of a cell."""
        return (*self.kinds, *(name for side in self.sides for name in side.adds))


def make_plan(settings: RunSettings) -> Plan:
    """Resolve a dataset, and cut as many of its cells as asked for, the first or chosen ones, into partitions.

    Args:
        settings: of the run.

    Raises:
        SourceError: the dataset cannot be read or does not have the layout.
        SettingsError: simulated cells are asked for without end, or the cells are chosen in a way that cannot be or
            that leaves none.
    """
    condition = parse(settings.where) if settings.where else None
    dataset = locate_dataset(settings)
    commit = source.resolve(dataset, settings.revision)
    urls = source.shard_urls(dataset, commit)
    if not urls:
        raise SourceError(f"'{dataset}' has no shards of cells")
    shards = Shards(dataset, urls, skips=settings.on_bad_data == "skip")
    wanted, layout = _wanted(shards, commit, condition, settings)
    partitions = _cut(wanted, layout, commit, shards, settings)
    cells = sum(part.cells for part in partitions)
    vocabulary = store_vocabulary(store_of(settings), source.read_genes(dataset, commit), dataset)
    return Plan(
        dataset=dataset,
        revision=commit or _digest(picked.shard.fingerprint for picked in wanted.values()),
        vocabulary=vocabulary,
        columns=layout.columns,
        left_out=layout.left_out,
        partitions=partitions,
        cells=cells,
        exhausted=settings.samples != ALL and cells < settings.samples,
        skipped=shards.skipped(sum(picked.cells for picked in wanted.values()) // len(wanted)),
        notes=layout.notes,
    )


def _wanted(
    shards: Shards, commit: str | None, condition: Condition | None, settings: RunSettings
) -> tuple[dict[int, Picked], _Layout]:
    """Shards, by index, with the rows of them that are wanted, and what their metadata hold."""
    if condition is not None or settings.per is not None:
        layout = _layout(shards.first().schema, shards.dataset, commit, settings)
        question = Question(condition, settings.per, layout.kinds, layout.sides, as_given(settings.where))
        wanted = choose_cells(shards, question, settings)
        if not wanted:
            raise SettingsError(f"{as_given(settings.where)}: none of the {shards.cells_seen:,} cells match")
        return wanted, layout
    wanted = choose_cells(shards, None, settings) if settings.spreads and settings.samples != ALL else {}
    if not wanted:
        wanted = {index: Picked(shard) for index, shard in shards.with_cells(settings.samples).items()}
    return wanted, _layout(next(iter(wanted.values())).shard.schema, shards.dataset, commit, settings)


def _cut(
    wanted: dict[int, Picked], layout: _Layout, commit: str | None, shards: Shards, settings: RunSettings
) -> tuple[Partition, ...]:
    store = store_of(settings)
    lookups = put_sides(store, layout.sides)

    def cut_one(item: tuple[int, Picked]) -> list[Partition]:
        index, picked = item
        common = {
            "dataset": shards.dataset,
            "revision": commit,
            "columns": (GENES, EXPRESSIONS, *layout.kinds),
            "shard": index,
            "shards": len(shards),
            "shard_rows": sum(picked.shard.group_rows),
            "shard_name": picked.shard.name,
            "fingerprint": picked.shard.fingerprint,
            "lookups": lookups,
        }
        return cut(picked, settings.partition_cells, common, store)

    with ThreadPoolExecutor(_WRITES_AT_ONCE) as pool:
        parts = list(chain.from_iterable(pool.map(cut_one, wanted.items())))
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
    """
    if not settings.is_synthetic:
        return settings.dataset
    if settings.samples == ALL:
        raise SettingsError("--samples all: simulated cells have no end; say how many")
    files = store_of(settings).files
    folder = Path(files.root) if files.is_local else _user_cache()
    simulated = folder / SYNTHETIC / f"version-{SIMULATION}-seed-{settings.seed}"
    return str(write_dataset(simulated, settings.samples, settings.seed))


def _user_cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tahoe-flow"


def store_vocabulary(store: Store, genes: pa.Table, dataset: str) -> Vocabulary:
    """Check a gene vocabulary and put it in the store.

    Raises:
        SourceError: a column is missing, tokens or ids are missing or repeated, or tokens are out of range.
    """
    missing = [name for name in (SYMBOL, ENSEMBL, TOKEN) if name not in genes.column_names]
    if missing:
        raise SourceError(f"the gene vocabulary of '{dataset}' has no column {', '.join(map(repr, missing))}")
    for name in (ENSEMBL, TOKEN):
        column = genes.column(name)
        if column.null_count or len(column.unique()) != len(column):
            raise SourceError(f"the gene vocabulary of '{dataset}' has a null or repeated '{name}'")
    tokens = genes.column(TOKEN)
    if not pa.types.is_integer(tokens.type) or not genes.num_rows or not _are_tokens(tokens.to_numpy()):
        raise SourceError(f"the gene vocabulary of '{dataset}' has a '{TOKEN}' that is not from 0 to {_MAX_TOKEN:,}")
    data = encode_table(genes.select([SYMBOL, ENSEMBL, TOKEN]))
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


def _layout(schema: pa.Schema, dataset: str, commit: str | None, settings: RunSettings) -> _Layout:
    missing = [name for name in (GENES, EXPRESSIONS) if name not in schema.names]
    if missing:
        raise SourceError(
            f"'{dataset}' has no column {', '.join(map(repr, missing))}; it has {', '.join(schema.names)}"
        )
    fields = [field for field in schema if field.name not in (GENES, EXPRESSIONS)]
    left_out = {field.name: f"type {field.type}" for field in fields if not _fits_a_table(field.type)}
    kinds = {field.name: field.type for field in fields if field.name not in left_out}
    taken = [name for name in kinds if _OWN_COLUMN.fullmatch(name)]
    if taken:
        raise SourceError(f"'{dataset}' has columns {', '.join(taken)}, the names of the results' own columns")
    sides, notes = read_sides(dataset, commit, tuple(kinds)) if settings.join else ((), ())
    return _Layout(kinds, left_out, sides, notes)


def _fits_a_table(kind: pa.DataType) -> bool:
    return not (pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _digest(parts: Iterator[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:40]
