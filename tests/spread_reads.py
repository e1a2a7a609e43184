"""What a spread sample reads, beside the row groups that its cells are in."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tasks.core.base.settings import Settings
from tasks.core.dataset.plan import make_plan
from tasks.core.dataset.source import stream_partition
from tasks.core.numerics.block import decode_table
from tasks.core.references.cells import Plan
from tasks.core.storage.store import store_of

IO = Path("/proc/self/io")


@dataclass(frozen=True)
class SpreadReads:
    """Bytes that planning and streaming read, bytes of the row groups used, and the cells."""

    read: int
    used: int
    groups: dict[str, set[int]]
    cells: pa.Table


def spread_reads(dataset: Path, settings: Settings) -> SpreadReads:
    """Plan and stream cells, and count what is read; the gene vocabulary, which every plan reads, is left out."""
    # Once before, for what a process reads when it does something for the first time, as its libraries.
    list(stream_partition(make_plan(settings.model_copy(update={"samples": 1})).partitions[0]))
    genes = (dataset / "metadata" / "gene_metadata.parquet").stat().st_size
    before = _bytes_read()
    plan = make_plan(settings)
    planned = _bytes_read() - before - genes
    rows = [decode_table(store_of(settings).get(part.rows)) for part in plan.partitions if part.rows]
    before = _bytes_read()
    parts = zip(plan.partitions, rows, strict=True)
    cells = pa.concat_tables([table for part, of in parts for _, table in stream_partition(part, of)])
    streamed = _bytes_read() - before
    groups = groups_of(plan, settings)
    used = sum(_size(dataset / shard, group) for shard, of_shard in groups.items() for group in of_shard)
    return SpreadReads(planned + streamed, used, groups, cells)


def groups_of(plan: Plan, settings: Settings) -> dict[str, set[int]]:
    """Row groups of each shard that cells are chosen of."""
    groups: dict[str, set[int]] = {}
    for part in plan.partitions:
        assert part.rows is not None
        rows = decode_table(store_of(settings).get(part.rows))["row"].to_numpy()
        footer = pq.read_metadata(Path(part.dataset) / part.shard_name)
        ends = np.cumsum([footer.row_group(at).num_rows for at in range(footer.num_row_groups)])
        groups.setdefault(part.shard_name, set()).update(np.searchsorted(ends, rows, side="right").tolist())
    return groups


def _bytes_read() -> int:
    """Bytes that this process has asked the system to read."""
    return int(re.findall(r"rchar: (\d+)", IO.read_text())[0])


def _size(shard: Path, group: int) -> int:
    described = pq.read_metadata(shard).row_group(group)
    return sum(described.column(at).total_compressed_size for at in range(described.num_columns))
