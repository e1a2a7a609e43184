"""How much there is to read of a dataset, from what is known of it offline: footers, or published sizes."""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq

from tasks.core.base.errors import SettingsError, SourceError
from tasks.core.base.settings import ALL, RunSettings
from tasks.core.dataset import simulation, synthetic
from tasks.core.dataset.cells import EXPRESSIONS, GENES
from tasks.core.dataset.kinds import conform, readable, table_kind
from tasks.core.dataset.partitions import pieces
from tasks.core.dataset.place import GENES_TABLE, Place, find_place, shard_names, table_name
from tasks.core.dataset.shard import OpenShard, open_shard, read_table
from tasks.core.dataset.spread import evenly_spaced, rng_of, shards_for, share_out
from tasks.core.forecast.rates import Rates
from tasks.core.storage.store import Reference

TAHOE = "tahoebio/Tahoe-100M"
_TAHOE_SHARDS, _TAHOE_CELLS, _TAHOE_BYTES = 3_388, 95_624_334, 337_600_000_000
_TAHOE_GENES, _TAHOE_NONZEROS, _TAHOE_GROUP = 62_710, 1_427, 1_000
# Tahoe's cells have their drug's structure and PubChem id, which simulated ones lack: some 65 characters.
_TAHOE_TEXT = 65.0


@dataclass(frozen=True)
class ShardSize:
    """What a footer tells of a shard."""

    groups: Sequence[int]
    bytes: float
    nonzeros: float

    @property
    def cells(self) -> int:
        """Rows of all row groups."""
        return sum(self.groups)


class Extent(Reference):
    """What a run reads.

    Attributes:
        shards: that are opened.
        partitions: that its cells are cut into.
        nonzeros: of its cells.
        genes: of the vocabulary.
        source_bytes: that are read: of the row groups that hold its cells.
        parquet_metadata: bytes of a cell's metadata in the results, as Parquet.
        csv_metadata: the same as CSV.
        simulated: whether the cells are.
        remote: whether the bytes come over a network.
    """

    dataset: str
    shards: int
    partitions: int
    cells: int
    nonzeros: int
    genes: int
    source_bytes: int
    parquet_metadata: float
    csv_metadata: float
    simulated: bool
    remote: bool


def check_known(settings: RunSettings) -> None:
    """Refuse a dataset of which nothing is known offline.

    Raises:
        SettingsError: it is not simulated, no folder, and not Tahoe-100M; or simulated cells are asked for without end.
    """
    if settings.is_synthetic and settings.samples == ALL:
        raise SettingsError("--samples all: simulated cells have no end; say how many")
    if settings.is_synthetic:
        return
    place = find_place(settings.dataset, settings.revision)
    if not place.is_local and place.name != TAHOE:
        raise SettingsError(
            f"--plan reads no network: it knows the sizes of {TAHOE} and reads those of a folder, and "
            f"'{settings.dataset}' is neither"
        )


def extent_of(settings: RunSettings, rates: Rates) -> Extent:
    """Say how much of its dataset a run reads; a choice by metadata counts as the first cells.

    Args:
        settings: of the run, whose dataset is one that `check_known` passes.
        rates: what simulated cells are like.

    Raises:
        SourceError: a folder has no shards, or no cells in them.
        DataError: a footer cannot be read.
    """
    if settings.is_synthetic:
        return _of_simulated(settings, rates)
    place = find_place(settings.dataset, settings.revision)
    if place.is_local:
        return _of_folder(place, settings)
    return _of_tahoe(settings, rates)


def _of_simulated(settings: RunSettings, rates: Rates) -> Extent:
    groups = [synthetic.ROWS_PER_GROUP] * (synthetic.CELLS_PER_SHARD // synthetic.ROWS_PER_GROUP)
    cells = synthetic.CELLS_PER_SHARD
    shard = ShardSize(groups, cells * rates.source_bytes, cells * rates.nonzeros)
    shards = [shard] * -(-int(settings.samples) // cells)
    return _extent(
        settings, shards, simulation.GENES, (rates.parquet_metadata, rates.csv_metadata), simulated=True, remote=False
    )


def _of_tahoe(settings: RunSettings, rates: Rates) -> Extent:
    ends = np.arange(_TAHOE_SHARDS + 1) * _TAHOE_CELLS // _TAHOE_SHARDS
    shards = [_even_shard(int(cells)) for cells in np.diff(ends)]
    metadata = (rates.parquet_metadata, rates.csv_metadata + _TAHOE_TEXT)
    return _extent(settings, shards, _TAHOE_GENES, metadata, simulated=False, remote=True)


def _even_shard(cells: int) -> ShardSize:
    whole, rest = divmod(cells, _TAHOE_GROUP)
    groups = [_TAHOE_GROUP] * whole + [rest] * (rest > 0)
    return ShardSize(groups, cells / _TAHOE_CELLS * _TAHOE_BYTES, cells * _TAHOE_NONZEROS)


def _of_folder(place: Place, settings: RunSettings) -> Extent:
    shards: list[ShardSize] = []
    sizes: tuple[float, float] | None = None
    for name in shard_names(place):
        with open_shard(place, name) as shard:
            # Each cell begins with a marker.
            nonzeros = shard.values(GENES) - sum(shard.group_rows)
            shards.append(ShardSize(shard.group_rows, shard.bytes, nonzeros))
            sizes = sizes or _metadata_sizes(shard)
    if sizes is None:
        raise SourceError(f"the shards of '{place.name}' hold no cells")
    genes = read_table(place, GENES_TABLE)
    if genes is None:
        raise SourceError(f"'{place.name}' has no gene vocabulary, {table_name(GENES_TABLE)}")
    is_simulated = (Path(place.name) / table_name("planted_effects")).exists()
    return _extent(settings, shards, genes.num_rows, sizes, simulated=is_simulated, remote=False)


def _metadata_sizes(shard: OpenShard) -> tuple[float, float] | None:
    """Bytes of a cell's metadata as Parquet and as CSV, from the first rows of a shard; None where it has none."""
    fields = [field for field in shard.schema if field.name not in (GENES, EXPRESSIONS)]
    kinds = {field.name: kind for field in fields if (kind := table_kind(field.type)) is not None}
    for read in shard.batches(range(len(shard.group_rows)), list(kinds)):
        table = readable(conform(read, kinds, shard.name))
        parquet, csv = io.BytesIO(), io.BytesIO()
        pq.write_table(table, parquet)
        pl.DataFrame(table).write_csv(csv, include_header=False)
        return parquet.tell() / table.num_rows, csv.tell() / table.num_rows
    return None


def _extent(
    settings: RunSettings,
    shards: Sequence[ShardSize],
    genes: int,
    metadata: tuple[float, float],
    *,
    simulated: bool,
    remote: bool,
) -> Extent:
    taken = list(
        _spread(settings, shards) if settings.spreads and settings.samples != ALL else _first(settings, shards)
    )
    return Extent(
        dataset=settings.dataset,
        shards=len(taken),
        partitions=sum(part.partitions for part in taken),
        cells=sum(part.cells for part in taken),
        nonzeros=round(sum(part.shard.nonzeros * part.cells / part.shard.cells for part in taken)),
        genes=genes,
        source_bytes=round(sum(part.shard.bytes * part.rows_read / part.shard.cells for part in taken)),
        parquet_metadata=metadata[0],
        csv_metadata=metadata[1],
        simulated=simulated,
        remote=remote,
    )


@dataclass(frozen=True)
class _Taken:
    """Cells of a shard, and the rows that are read for them."""

    shard: ShardSize
    cells: int
    rows_read: int
    partitions: int


def _first(settings: RunSettings, shards: Sequence[ShardSize]) -> Iterator[_Taken]:
    left = sum(shard.cells for shard in shards) if settings.samples == ALL else settings.samples
    for shard in (shard for shard in shards if shard.cells):
        cells = min(left, shard.cells)
        if cells <= 0:
            return
        parts = [start for start, _ in pieces(shard.groups, settings.partition_cells) if start < cells]
        yield _Taken(shard, cells, sum(_groups_read(shard.groups, cells)), len(parts))
        left -= cells


def _spread(settings: RunSettings, shards: Sequence[ShardSize]) -> Iterator[_Taken]:
    cells = min(int(settings.samples), sum(shard.cells for shard in shards))
    used = shards_for(cells, len(shards))
    chosen = [shards[at] for at in evenly_spaced(len(shards), used, rng_of(settings.seed).random())]
    if sum(shard.cells for shard in chosen) < cells:
        chosen = list(shards)
    quotas = share_out(cells, np.array([shard.cells for shard in chosen])).tolist()
    for shard, quota in zip(chosen, quotas, strict=True):
        if quota:
            groups = _groups_read(sorted(shard.groups, reverse=True), quota)
            of_groups = share_out(quota, np.array(groups)).tolist()
            yield _Taken(shard, quota, sum(groups), len(list(pieces(of_groups, settings.partition_cells))))


def _groups_read(groups: Sequence[int], cells: int) -> Sequence[int]:
    """Give as many row groups as hold so many cells."""
    return groups[: int(np.searchsorted(np.cumsum(groups), cells)) + 1]
