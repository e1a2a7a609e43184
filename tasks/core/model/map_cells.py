"""A map of a sample of the cells in two dimensions."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import pyarrow as pa

from tasks.core.base.settings import Settings
from tasks.core.model.label import embedded_blocks
from tasks.core.numerics.block import Float32Array, IntArray, decode_table, encode_table
from tasks.core.numerics.layout import MOST_CELLS, umap_layout
from tasks.core.numerics.sample import draw, take
from tasks.core.references.insight import CellMap
from tasks.core.references.model import Embedding
from tasks.core.storage.store import Outcome, StageKey, Store

VERSION = 1


@dataclass(frozen=True)
class PlacedSample:
    """The cells of a map.

    Attributes:
        rows: of each partition, those that are on it.
        places_n2: their coordinates, in the same order.
    """

    rows: list[IntArray]
    places_n2: Float32Array

    @classmethod
    def read(cls, store: Store, cell_map: CellMap, partitions: int) -> Self:
        """Read a map of cells of so many partitions."""
        table = decode_table(store.get(cell_map.places))
        partition, row, x, y = (table.column(name).to_numpy() for name in ("partition", "row", "x", "y"))
        return cls([row[partition == at] for at in range(partitions)], np.column_stack([x, y]))


def map_cells(store: Store, partitions: Sequence[Embedding], settings: Settings) -> Outcome[CellMap]:
    """Lay out a sample, drawn evenly from all cells, by UMAP."""
    layout = settings.recipe_in_full.layout
    inputs = {"cells": [part.key for part in partitions], "seed": settings.seed}
    key = StageKey(stage=layout, version=VERSION, inputs=inputs)

    def make() -> CellMap:
        blocks = embedded_blocks(store, partitions, settings.threads)
        rows = draw(blocks.rows, MOST_CELLS, np.random.default_rng(settings.seed))
        laid_out = umap_layout(take(blocks, rows), settings.seed)
        table = {
            "partition": np.repeat(np.arange(len(rows)), [len(of_part) for of_part in rows]),
            "row": np.concatenate(rows),
            "x": laid_out[:, 0],
            "y": laid_out[:, 1],
        }
        places = store.put(f"{key.folder}/places.arrow", encode_table(pa.table(table)), len(laid_out))
        return CellMap(key=key.digest, cells=len(laid_out), places=places)

    return store.answer(key, CellMap, make)
