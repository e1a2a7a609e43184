"""A simulated dataset in the layout of Tahoe-100M, of any size, for tests, examples and benchmarks.

A shard depends on the seed and its own index alone, so a larger dataset is a smaller one with shards added.
Run as `python -m tasks.core.dataset.synthetic FOLDER --cells N --seed S`.
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq

from tasks.core.base.errors import SettingsError, StoreError, first_line
from tasks.core.dataset import simulation
from tasks.core.dataset.cells import EXPRESSIONS, GENES, VEHICLE
from tasks.core.dataset.simulated_metadata import cell_line_metadata, drug_metadata, sample_metadata
from tasks.core.dataset.simulated_tables import (
    MITOCHONDRIAL_GENES,
    SCHEMA,
    expression_data,
    gene_metadata,
    planted_effects,
)
from tasks.core.dataset.simulation import Simulation

# Named in the README of each dataset: raise it when the same seed gives other files.
VERSION = 2
ROWS_PER_GROUP, CELLS_PER_SHARD, ALL_SHARDS = 1_000, 5_000, 19_125
ALL_CELLS = CELLS_PER_SHARD * ALL_SHARDS
# So that 200,000 cells come from several plates, and the first 50,000 from one.
SHARDS_PER_PLATE = 10
_README = """\
---
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
- config_name: sample_metadata
  data_files:
  - split: train
    path: metadata/sample_metadata.parquet
- config_name: drug_metadata
  data_files:
  - split: train
    path: metadata/drug_metadata.parquet
- config_name: cell_line_metadata
  data_files:
  - split: train
    path: metadata/cell_line_metadata.parquet
---
# Simulated cells

**These cells are simulated.** No cell, gene, line, drug or effect here is real; only the layout is that of
Tahoe-100M (columns and types, the marker at the head of each cell, tokens, row groups, shards by plate).

- Made by the simulator of Tahoe flow, version {version}, seed {seed}.
- The whole would be {cells:,} cells in {shards:,} shards; this folder holds the first of them.
- `metadata/gene_metadata.parquet`: {genes:,} invented genes, {mitochondrial} of which pass for mitochondrial (MT-).
- `metadata/sample_metadata.parquet`, `drug_metadata.parquet`, `cell_line_metadata.parquet`: invented wells, drugs
  and lines. A plate has one dose, but for the vehicle's; a dose, a target or a mutation does nothing to a cell.
- `metadata/planted_effects.parquet`: what was planted. Cells with an effect hold its `name` in the column
  `kind` (`cell_line_id`, `plate` or `drug`); `log2_fold_change` compares the gene's share of their molecules
  with its share in the profile that all lines vary.
- No simulated drug has a structure or a PubChem id; the vehicle, `{vehicle}`, has no effect.
"""


def write_dataset(folder: Path, cells: int, seed: int, on_shard: Callable[[int, int], None] | None = None) -> Path:
    """Write a simulated dataset, or what a folder lacks of it.

    Files that are there are left as they are. Each appears whole or not at all, with the same bytes whoever
    writes it, so several processes may write the same dataset to a folder at once.

    Args:
        folder: made where missing.
        cells: at least how many; shards are whole, so the next multiple of 5,000. Shards beyond, left by an
            earlier call for more cells, stay.
        seed: at least 0.
        on_shard: told, after each shard, how many are there and how many there will be.

    Returns:
        The folder.

    Raises:
        SettingsError: a ValueError; `cells` or `seed` is out of range, or the folder holds another dataset.
        OSError: the folder cannot be written.
    """
    if not 1 <= cells <= ALL_CELLS:
        raise SettingsError(f"cells={cells} is out of range: simulate from 1 to {ALL_CELLS:,} cells")
    if seed < 0:
        raise SettingsError(f"seed={seed} is out of range: give a seed of 0 or more")
    _write_readme(folder / "README.md", seed)
    model = Simulation(seed)
    tables: dict[str, Callable[[], pa.Table]] = {
        "gene_metadata": lambda: gene_metadata(model.base),
        "planted_effects": lambda: planted_effects(model.effects),
        "sample_metadata": sample_metadata,
        "drug_metadata": drug_metadata,
        "cell_line_metadata": cell_line_metadata,
    }
    for name, make in tables.items():
        _write_table(folder / "metadata" / f"{name}.parquet", make)
    shards = -(-cells // CELLS_PER_SHARD)
    for shard in range(shards):
        _write_shard(folder / shard_path(shard), model, shard)
        if on_shard is not None:
            on_shard(shard + 1, shards)
    return folder


def shard_path(shard: int) -> Path:
    """Path of a shard in its dataset; counts the shards of the simulated whole, so that it never changes."""
    return Path("data") / f"train-{shard:05d}-of-{ALL_SHARDS:05d}.parquet"


def plate_of(shard: int) -> int:
    """Index of the plate, from 0, that all cells of a shard come from."""
    return shard // SHARDS_PER_PLATE % simulation.PLATES


def _write_readme(path: Path, seed: int) -> None:
    text = _README.format(
        version=VERSION,
        seed=seed,
        cells=ALL_CELLS,
        shards=ALL_SHARDS,
        genes=simulation.GENES,
        mitochondrial=MITOCHONDRIAL_GENES,
        vehicle=VEHICLE,
    )
    if not path.exists():
        with _published(path) as draft:
            draft.write_text(text, encoding="utf-8")
    elif path.read_text(encoding="utf-8") != text:
        raise SettingsError(
            f"'{path.parent}' holds a dataset other than simulation {VERSION} with seed {seed}: "
            "choose another folder, or delete that one"
        )


def _write_table(path: Path, make: Callable[[], pa.Table]) -> None:
    if not path.exists():
        with _published(path) as draft:
            pq.write_table(make(), draft)


def _write_shard(path: Path, model: Simulation, shard: int) -> None:
    if path.exists():
        return
    plate = plate_of(shard)
    # Sorted tokens pack tighter and faster as differences than through a dictionary.
    packing: dict[str, Any] = {
        "use_dictionary": [f"{EXPRESSIONS}.list.element", *SCHEMA.names[2:]],
        "column_encoding": {f"{GENES}.list.element": "DELTA_BINARY_PACKED"},
    }
    with _published(path) as draft, pq.ParquetWriter(draft, SCHEMA, **packing) as writer:
        for group in range(CELLS_PER_SHARD // ROWS_PER_GROUP):
            cells = model.cells(plate, ROWS_PER_GROUP, shard, group)
            table = expression_data(cells, plate, library=f"sim_{shard:05d}_{group}")
            writer.write_table(table, row_group_size=ROWS_PER_GROUP)


@contextmanager
def _published(path: Path) -> Iterator[Path]:
    """Give a hidden path in the same folder to write to, and move it to `path` once all is well.

    Raises:
        StoreError: there is no room, or no right to write.
    """
    draft = path.with_name(f".{path.name}.{uuid4().hex}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield draft
        draft.replace(path)
    except OSError as error:
        raise StoreError(f"cannot write simulated cells to {path}: {error.strerror or first_line(error)}") from error
    finally:
        with suppress(OSError):
            draft.unlink(missing_ok=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Write a dataset as the command line says."""
    parser = argparse.ArgumentParser(
        prog="python -m tasks.core.dataset.synthetic", description="Write simulated cells."
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--cells", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    given = parser.parse_args(arguments)
    try:
        write_dataset(given.folder, given.cells, given.seed)
    except (SettingsError, StoreError) as error:
        parser.error(str(error))
    shards = len(list((given.folder / "data").glob("train-*.parquet")))
    sys.stdout.write(f"{given.folder}: {shards * CELLS_PER_SHARD:,} simulated cells, {shards:,} shards\n")


if __name__ == "__main__":
    main()
