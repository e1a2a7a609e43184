"""Small datasets in Tahoe's layout, cell by cell as a test wants them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

MARKER = (1, -2.0)
README = """---
configs:
- config_name: expression_data
  default: true
  data_files:
  - split: train
    path: data/train-*
- config_name: gene_metadata
  data_files:
  - split: train
    path: metadata/gene_metadata.parquet
---
"""


@dataclass
class Cell:
    """Tokens and values as the dataset gives them, marker and all."""

    genes: list[int | None]
    expressions: list[float | None]
    metadata: dict[str, Any] = field(default_factory=lambda: {"drug": "DMSO_TF", "plate": "plate1"})


def cell(counts: dict[int, float], **metadata: Any) -> Cell:
    """A well-formed cell with these counts by token."""
    made = Cell([MARKER[0], *counts], [MARKER[1], *counts.values()])
    made.metadata |= metadata
    return made


def random_cells(number: int, genes: int, seed: int = 0, kinds: int = 2, draw: int = 0) -> list[Cell]:
    """Well-formed cells of some kinds that a clustering can tell apart; each draw gives others of the same kinds."""
    profiles = np.random.default_rng(seed).gamma(0.3, size=(kinds, genes))
    rng = np.random.default_rng([seed, draw])
    cells = []
    for index in range(number):
        counts = rng.poisson(3 * profiles[index % kinds])
        tokens = np.flatnonzero(counts)
        by_token = {int(token) + 3: float(counts[token]) for token in tokens}
        cells.append(cell(by_token, drug=f"drug{index % 3}", plate="plate1"))
    return cells


def table_of(cells: Sequence[Cell]) -> pa.Table:
    """The cells as a table of the dataset's types."""
    names = cells[0].metadata
    columns = {
        "genes": pa.array([cell.genes for cell in cells], pa.list_(pa.int64())),
        "expressions": pa.array([cell.expressions for cell in cells], pa.list_(pa.float32())),
    }
    return pa.table(columns | {name: [cell.metadata[name] for cell in cells] for name in names})


def gene_table(genes: int) -> pa.Table:
    """A vocabulary of `genes` genes, tokens from 3 on."""
    return pa.table(
        {
            "gene_symbol": [f"GENE{index}" for index in range(genes)],
            "ensembl_id": [f"TESTG{index:05}" for index in range(genes)],
            "token_id": np.arange(3, genes + 3),
        }
    )


def write_dataset(
    folder: Path,
    shards: Sequence[pa.Table],
    genes: pa.Table,
    group_rows: int = 10,
    first: int = 0,
    of: int | None = None,
) -> Path:
    """Write a dataset folder, or add to it; each table becomes a shard, from the first index on, of so many."""
    for name in ("data", "metadata"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "README.md").write_text(README)
    pq.write_table(genes, folder / "metadata" / "gene_metadata.parquet")
    for index, shard in enumerate(shards, first):
        path = folder / "data" / f"train-{index:05}-of-{of or len(shards):05}.parquet"
        pq.write_table(shard, path, row_group_size=group_rows)
    return folder


def write_random_dataset(folder: Path, cells: int = 60, genes: int = 40, shards: int = 2, group_rows: int = 10) -> Path:
    """Write a well-formed dataset of random cells."""
    made = random_cells(cells, genes)
    step = -(-cells // shards)
    tables = [table_of(made[start : start + step]) for start in range(0, cells, step)]
    return write_dataset(folder, tables, gene_table(genes), group_rows)
