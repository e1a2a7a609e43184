"""From a dataset to the partitions that a run will read."""

import hashlib
import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tasks.core.base.errors import DataError, SettingsError, SourceError
from tasks.core.base.settings import ALL, SYNTHETIC, RunSettings, Settings
from tasks.core.dataset import source
from tasks.core.dataset.cells import EXPRESSIONS, GENES
from tasks.core.dataset.source import Shard
from tasks.core.dataset.synthetic import VERSION as SIMULATION
from tasks.core.dataset.synthetic import write_dataset
from tasks.core.numerics.block import decode_table, encode_table
from tasks.core.references.cells import Partition, Plan, Skipped, Vocabulary
from tasks.core.storage.store import Store, store_of

# Footers read at the same time; each is a few requests on the Hub.
_FOOTERS_AHEAD = 8
# A table is kept with a place for each token up to the largest.
_MAX_TOKEN = 2**24
# Columns that the results have beside the cells' metadata.
_OWN_COLUMN = re.compile(r"pc\d+|cluster(_\d+)?|leiden")
SYMBOL, ENSEMBL, TOKEN = "gene_symbol", "ensembl_id", "token_id"


def make_plan(settings: RunSettings) -> Plan:
    """Resolve a dataset and cut as many of its cells as asked for into partitions.

    Args:
        settings: of the run.

    Raises:
        SourceError: the dataset cannot be read or does not have the layout.
        SettingsError: simulated cells are asked for without end.
    """
    dataset = locate_dataset(settings)
    commit = source.resolve(dataset, settings.revision)
    urls = source.shard_urls(dataset, commit)
    if not urls:
        raise SourceError(f"'{dataset}' has no shards of cells")
    shards, unreadable = _shards_needed(urls, dataset, settings)
    columns, left_out = _metadata_columns(next(iter(shards.values())), dataset)
    parts = [
        part
        for index, shard in shards.items()
        for part in _cut(shard, settings.partition_cells, _common(dataset, commit, columns, index, len(urls), shard))
    ]
    partitions = tuple(_first(parts, settings.samples))
    cells = sum(part.cells for part in partitions)
    vocabulary = store_vocabulary(store_of(settings), source.read_genes(dataset, commit), dataset)
    return Plan(
        dataset=dataset,
        revision=commit or _digest(shard.fingerprint for shard in shards.values()),
        vocabulary=vocabulary,
        columns=columns,
        left_out=left_out,
        partitions=partitions,
        cells=cells,
        exhausted=settings.samples != ALL and cells < settings.samples,
        skipped=_describe_skipped(unreadable, list(shards.values()), dataset),
    )


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
    return Vocabulary(key=key, genes=genes.num_rows, table=store.put(f"vocabulary/{key}.arrow", data, genes.num_rows))


def _are_tokens(tokens: npt.NDArray[np.integer[Any]]) -> bool:
    return bool(tokens.min() >= 0 and tokens.max() <= _MAX_TOKEN)


def column_of_token(store: Store, vocabulary: Vocabulary) -> npt.NDArray[np.int32]:
    """For each token from 0 on, the matrix column of its gene, or -1 where it names none."""
    tokens = decode_table(store.get(vocabulary.table)).column(TOKEN).to_numpy()
    columns = np.full(int(tokens.max()) + 1, -1, np.int32)
    columns[tokens] = np.arange(len(tokens), dtype=np.int32)
    return columns


def _shards_needed(
    urls: tuple[str, ...], dataset: str, settings: RunSettings
) -> tuple[dict[int, Shard], dict[str, DataError]]:
    """As many shards, by index, as hold the cells asked for, and those on the way that cannot be opened."""
    shards: dict[int, Shard] = {}
    unreadable: dict[str, DataError] = {}

    def describe(url: str) -> Shard | DataError:
        try:
            return source.read_shard(url, dataset)
        except DataError as error:
            if settings.on_bad_data == "fail":
                raise
            return error

    remaining = iter(enumerate(urls))
    with ThreadPoolExecutor(_FOOTERS_AHEAD) as pool:
        while batch := list(islice(remaining, _FOOTERS_AHEAD)):
            for (index, url), found in zip(batch, pool.map(lambda item: describe(item[1]), batch), strict=True):
                if isinstance(found, DataError):
                    unreadable[url] = found
                else:
                    shards[index] = found
            if settings.samples != ALL and sum(sum(shard.group_rows) for shard in shards.values()) >= settings.samples:
                break
    if not shards:
        raise next(iter(unreadable.values()))
    return shards, unreadable


def _describe_skipped(unreadable: dict[str, DataError], shards: list[Shard], dataset: str) -> tuple[Skipped, ...]:
    usual = sum(sum(shard.group_rows) for shard in shards) // len(shards)
    return tuple(
        Skipped(shard=source.name_within(url, dataset), row=0, rows=usual, reason=str(error))
        for url, error in unreadable.items()
    )


def _metadata_columns(shard: Shard, dataset: str) -> tuple[tuple[str, ...], dict[str, str]]:
    missing = [name for name in (GENES, EXPRESSIONS) if name not in shard.schema.names]
    if missing:
        raise SourceError(
            f"'{dataset}' has no column {', '.join(map(repr, missing))}; it has {', '.join(shard.schema.names)}"
        )
    fields = [field for field in shard.schema if field.name not in (GENES, EXPRESSIONS)]
    left_out = {field.name: f"type {field.type}" for field in fields if not _fits_a_table(field.type)}
    kept = tuple(field.name for field in fields if field.name not in left_out)
    taken = [name for name in kept if _OWN_COLUMN.fullmatch(name)]
    if taken:
        raise SourceError(f"'{dataset}' has columns {', '.join(taken)}, the names of the results' own columns")
    return kept, left_out


def _fits_a_table(kind: pa.DataType) -> bool:
    return not (pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _common(
    dataset: str, commit: str | None, columns: tuple[str, ...], index: int, shards: int, shard: Shard
) -> dict[str, object]:
    return {
        "dataset": dataset,
        "revision": commit,
        "columns": (GENES, EXPRESSIONS, *columns),
        "shard": index,
        "shards": shards,
        "shard_name": shard.name,
        "fingerprint": shard.fingerprint,
    }


def _cut(shard: Shard, partition_cells: int, common: dict[str, object]) -> Iterator[Partition]:
    """Cut a shard on a fixed grid, at whole row groups where they are smaller than a partition."""
    start = group = group_row = 0
    rows = 0
    for index, size in enumerate(shard.group_rows):
        if rows and rows + size > partition_cells:
            yield _partition(common, group, group_row, start, start + rows)
            start, group, group_row, rows = start + rows, index, start + rows, 0
        rows += size
        while rows > partition_cells:
            yield _partition(common, group, group_row, start, start + partition_cells)
            start, rows = start + partition_cells, rows - partition_cells
    if rows:
        yield _partition(common, group, group_row, start, start + rows)


def _partition(common: dict[str, object], group: int, group_row: int, start: int, stop: int) -> Partition:
    return Partition.model_validate(
        common | {"first_group": group, "first_group_row": group_row, "start": start, "stop": stop}
    )


def _first(parts: list[Partition], samples: int | Literal["all"]) -> Iterator[Partition]:
    left = sum(part.cells for part in parts) if samples == ALL else samples
    for part in parts:
        if left <= 0:
            return
        yield part.model_copy(update={"stop": min(part.stop, part.start + left)})
        left -= part.cells


def _digest(parts: Iterator[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:40]
