"""A dataset in Tahoe's layout, on the Hub or in a folder, as Arrow batches; the only module that imports `datasets`."""

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any

import datasets
import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
from huggingface_hub import HfApi
from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

from tasks.core.base.errors import DataError, SourceError, TahoeFlowError, UnreachableError, first_line
from tasks.core.dataset.hub_waits import keep_waits
from tasks.core.references.cells import Partition

CELLS_CONFIG, GENES_CONFIG = "expression_data", "gene_metadata"
# Rows decoded at a time: Tahoe's row groups have as many.
_BATCH_ROWS = 1_000

_TIMEOUT_SECONDS = 20.0
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_OFFLINE = "a local folder in the same layout, or --dataset synthetic, works without a network"
# Row groups are read one by one: a larger block would fetch half of the next one as well.
_STORAGE = {"hf": {"block_size": 1 << 16}}

# A read that goes on failing ends in minutes; the stage is then tried again as a whole.
datasets.config.STREAMING_READ_MAX_RETRIES = datasets.config.STREAMING_OPEN_MAX_RETRIES = 2
datasets.disable_progress_bars()
datasets.logging.set_verbosity(datasets.logging.CRITICAL)


@dataclass(frozen=True)
class Shard:
    """One parquet file of cells.

    Attributes:
        name: its path within the dataset.
        fingerprint: changes when the file does.
        group_rows: rows of each of its row groups.
        schema: its Arrow schema.
    """

    name: str
    fingerprint: str
    group_rows: tuple[int, ...]
    schema: pa.Schema


def resolve(dataset: str, revision: str | None) -> str | None:
    """Commit that a revision of a dataset on the Hub stands for; None for a folder, which has no revisions.

    Raises:
        SourceError: there is no such folder, dataset or revision.
        UnreachableError: the Hub does not answer.
    """
    if Path(dataset).is_dir():
        return None
    if not _HUB_ID.fullmatch(dataset):
        raise SourceError(f"there is no folder '{dataset}', and it is no id on the Hub; {_OFFLINE}")
    with _translated(dataset, "the Hub's description"):
        try:
            commit: str | None = HfApi().dataset_info(dataset, revision=revision, timeout=_TIMEOUT_SECONDS).sha
        except RevisionNotFoundError as error:
            raise SourceError(f"'{dataset}' has no revision '{revision}' on the Hub") from error
        except RepositoryNotFoundError as error:
            raise SourceError(f"the Hub has no dataset '{dataset}', or it is private; {_OFFLINE}") from error
    return commit


def shard_urls(dataset: str, revision: str | None) -> tuple[str, ...]:
    """URL or path of every shard of cells, in stream order."""
    return tuple(_builder(dataset, CELLS_CONFIG, revision, None).config.data_files["train"])


def read_shard(url: str, dataset: str) -> Shard:
    """Describe a shard from its footer.

    Raises:
        DataError: the footer cannot be read.
        SourceError: the file cannot be reached.
    """
    name = name_within(url, dataset)
    with _translated(dataset, f"shard {name}: its parquet footer"):
        fs, path = fsspec.core.url_to_fs(url)
        info = fs.info(path)
        with fs.open(path, "rb") as file:
            footer = pq.read_metadata(file)
    made_of = [name, info["size"], info.get("blob_id") or info.get("mtime"), str(footer.to_dict())]
    return Shard(
        name,
        hashlib.sha256(repr(made_of).encode()).hexdigest()[:32],
        tuple(footer.row_group(index).num_rows for index in range(footer.num_row_groups)),
        footer.schema.to_arrow_schema(),
    )


def read_genes(dataset: str, revision: str | None) -> pa.Table:
    """Read the gene vocabulary: `gene_symbol`, `ensembl_id` and `token_id` in the dataset's order."""
    with _translated(dataset, "the gene vocabulary"):
        stream = _builder(dataset, GENES_CONFIG, revision, None).as_streaming_dataset(split="train")
        return pa.concat_tables(stream.with_format("arrow").iter(batch_size=100_000)).combine_chunks()


def stream_partition(partition: Partition) -> Iterator[tuple[int, pa.Table]]:
    """Yield the partition's rows as tables, each with the row of the shard at which it begins.

    Raises:
        DataError: the shard cannot be decoded, or ends too early.
        SourceError: it cannot be reached.
    """
    row = partition.first_group_row
    with _translated(partition.dataset, f"shard {partition.shard_name}, rows from {partition.start:,} on"):
        for table in _tables(partition):
            first, last = max(partition.start, row), min(partition.stop, row + table.num_rows)
            if first < last:
                yield first, table.slice(first - row, last - first)
            row += table.num_rows
            if row >= partition.stop:
                return
    raise DataError(f"shard {partition.shard_name} ends at row {row:,}, before row {partition.stop:,} of its footer")


def _tables(partition: Partition) -> Iterator[pa.Table]:
    stream = _cells_stream(partition.dataset, partition.revision, partition.columns, partition.shards)
    shard = stream.shard(partition.shards, partition.shard).with_format("arrow")
    if partition.first_group == 0:
        return shard.iter(batch_size=_BATCH_ROWS)  # type: ignore[no-any-return]
    groups = shard.reshard()
    later = range(partition.first_group, groups.n_shards)
    return chain.from_iterable(groups.shard(groups.n_shards, at).iter(_BATCH_ROWS) for at in later)


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
    with _translated(dataset, f"config '{config}'"):
        return datasets.load_dataset_builder(dataset, config, revision=revision, storage_options=_STORAGE, **options)


def name_within(url: str, dataset: str) -> str:
    """Path of a shard in its dataset, from its URL or path."""
    if url.startswith("hf://"):
        return url.partition("@")[2].partition("/")[2]
    return url.rpartition(f"{dataset.rstrip('/')}/")[2]


@contextmanager
def _translated(dataset: str, what: str) -> Iterator[None]:
    if not Path(dataset).is_dir():
        keep_waits()
    try:
        yield
    except TahoeFlowError:
        raise
    except Exception as error:  # reading may fail in whatever way the libraries below us fail
        if _is_undecodable(error):
            raise DataError(f"{what} of '{dataset}' cannot be decoded: {first_line(error)}") from error
        kind = UnreachableError if _may_pass(error) else SourceError
        raise kind(f"{what} of '{dataset}' cannot be read: {first_line(error)}; {_OFFLINE}") from error


def _is_undecodable(error: Exception) -> bool:
    # Arrow reports bad pages as a bare OSError; what concerns files and networks is a subclass or has an errno.
    return isinstance(error, pa.ArrowException) or (type(error) is OSError and error.errno is None)


def _may_pass(error: Exception) -> bool:
    status = getattr(getattr(error, "response", None), "status_code", 0)
    if status == 429 or status >= 500 or isinstance(error, ConnectionError | TimeoutError):
        return True
    # The Hub's client has its own copy of httpx, and `datasets` reports an outage while it lists files as none found.
    by_transport = any(kind.__name__ == "TransportError" for kind in type(error).__mro__)
    return by_transport or "LocalEntryNotFoundError" in str(error)
