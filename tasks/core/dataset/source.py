"""A dataset in Tahoe's layout, on the Hub or in a folder, as Arrow batches; the only module that imports `datasets`."""

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
from huggingface_hub import HfApi
from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

from tasks.core.base.errors import DataError, SourceError
from tasks.core.dataset.partitions import GROUP, GROUP_ROW, ROW
from tasks.core.dataset.reading import BLOCK_BYTES, OFFLINE, translated
from tasks.core.references.cells import Partition

CELLS_CONFIG, GENES_CONFIG = "expression_data", "gene_metadata"
# Rows decoded at a time: Tahoe's row groups have as many.
_BATCH_ROWS = 1_000

_TIMEOUT_SECONDS = 20.0
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_STORAGE = {"hf": {"block_size": BLOCK_BYTES}}

# A read that goes on failing ends in minutes; the stage is then tried again as a whole.
datasets.config.STREAMING_READ_MAX_RETRIES = datasets.config.STREAMING_OPEN_MAX_RETRIES = 2
datasets.disable_progress_bars()
datasets.logging.set_verbosity(datasets.logging.CRITICAL)


def resolve(dataset: str, revision: str | None) -> str | None:
    """Commit that a revision of a dataset on the Hub stands for; None for a folder, which has no revisions.

    Raises:
        SourceError: there is no such folder, dataset or revision.
        UnreachableError: the Hub does not answer.
    """
    if Path(dataset).is_dir():
        return None
    if not _HUB_ID.fullmatch(dataset):
        raise SourceError(f"there is no folder '{dataset}', and it is no id on the Hub; {OFFLINE}")
    with translated(dataset, "the Hub's description"):
        try:
            commit: str | None = HfApi().dataset_info(dataset, revision=revision, timeout=_TIMEOUT_SECONDS).sha
        except RevisionNotFoundError as error:
            raise SourceError(f"'{dataset}' has no revision '{revision}' on the Hub") from error
        except RepositoryNotFoundError as error:
            raise SourceError(f"the Hub has no dataset '{dataset}', or it is private; {OFFLINE}") from error
    return commit


def shard_urls(dataset: str, revision: str | None) -> tuple[str, ...]:
    """URL or path of every shard of cells, in stream order."""
    return tuple(_builder(dataset, CELLS_CONFIG, revision, None).config.data_files["train"])


def read_genes(dataset: str, revision: str | None) -> pa.Table:
    """Read the gene vocabulary: `gene_symbol`, `ensembl_id` and `token_id` in the dataset's order."""
    with translated(dataset, "the gene vocabulary"):
        stream = _builder(dataset, GENES_CONFIG, revision, None).as_streaming_dataset(split="train")
        return pa.concat_tables(stream.with_format("arrow").iter(batch_size=100_000)).combine_chunks()


def stream_partition(partition: Partition, chosen: pa.Table | None = None) -> Iterator[tuple[Sequence[int], pa.Table]]:
    """Yield the partition's rows as tables, each with the rows of the shard that it holds.

    Args:
        partition: which rows of which shard.
        chosen: of these rows the ones to give, as `partitions` writes them; all if None.

    Raises:
        DataError: the shard cannot be decoded, or ends too early.
        SourceError: it cannot be reached.
    """
    with translated(partition.dataset, f"shard {partition.shard_name}, rows from {partition.start:,} on"):
        yield from _all_rows(partition) if chosen is None else _chosen_rows(partition, chosen)


def _all_rows(partition: Partition) -> Iterator[tuple[Sequence[int], pa.Table]]:
    row = partition.first_group_row
    for table in _tables(partition):
        first, last = max(partition.start, row), min(partition.stop, row + table.num_rows)
        if first < last:
            yield range(first, last), table.slice(first - row, last - first)
        row += table.num_rows
        if row >= partition.stop:
            return
    raise _too_short(partition, row)


def _chosen_rows(partition: Partition, chosen: pa.Table) -> Iterator[tuple[Sequence[int], pa.Table]]:
    groups = _stream_of_shard(partition).reshard()
    rows, group_of, begins = (chosen.column(name).to_numpy() for name in (ROW, GROUP, GROUP_ROW))
    for at in np.unique(group_of):
        of_group = rows[group_of == at]
        row = int(begins[group_of == at][0])
        for table in groups.shard(groups.n_shards, int(at)).iter(_BATCH_ROWS):
            here = of_group[(of_group >= row) & (of_group < row + table.num_rows)]
            if len(here):
                yield here.tolist(), table.take(here - row)
            row += table.num_rows
        if row <= of_group[-1]:
            raise _too_short(partition, row)


def _too_short(partition: Partition, row: int) -> DataError:
    return DataError(f"shard {partition.shard_name} ends at row {row:,}, before row {partition.stop:,} of its footer")


def _tables(partition: Partition) -> Iterator[pa.Table]:
    shard = _stream_of_shard(partition)
    # As a whole it is read ahead of what is taken: of a shard that is partly wanted, far too much.
    if partition.is_whole_shard:
        return shard.iter(batch_size=_BATCH_ROWS)  # type: ignore[no-any-return]
    groups = shard.reshard()
    later = range(partition.first_group, groups.n_shards)
    return chain.from_iterable(groups.shard(groups.n_shards, at).iter(_BATCH_ROWS) for at in later)


def _stream_of_shard(partition: Partition) -> Any:
    stream = _cells_stream(partition.dataset, partition.revision, partition.columns, partition.shards)
    return stream.shard(partition.shards, partition.shard).with_format("arrow")


# A process opens a dataset once: on the Hub, listing its files takes requests. A stream is a description of what
# to read, cheap to share between threads; each iteration opens the files anew.
@lru_cache(maxsize=8)
def _cells_stream(dataset: str, revision: str | None, columns: tuple[str, ...], shards: int) -> Any:
    stream = _builder(dataset, CELLS_CONFIG, revision, columns).as_streaming_dataset(split="train")
    if stream.n_shards != shards:
        raise SourceError(f"'{dataset}' has {stream.n_shards:,} shards now and had {shards:,}: run again")
    return stream


def _builder(dataset: str, config: str, revision: str | None, columns: tuple[str, ...] | None) -> Any:
    options: dict[str, Any] = {} if columns is None else {"columns": list(columns)}
    with translated(dataset, f"config '{config}'"):
        return datasets.load_dataset_builder(dataset, config, revision=revision, storage_options=_STORAGE, **options)
