"""Cells of bad quality are left out of a partition, and counted."""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tasks.core.base.errors import DataError, SettingsError
from tasks.core.base.recipes import Recipe
from tasks.core.dataset.plan import SYMBOL
from tasks.core.dataset.stored_blocks import gene_ranks, put_counts, read_counts
from tasks.core.numerics.block import decode_table, encode_table
from tasks.core.numerics.quality import (
    COUNTS_COLUMN,
    GENES_COLUMN,
    MITO_COLUMN,
    VERSION,
    CellQuality,
    is_mitochondrial,
)
from tasks.core.references.cells import Checked, Counted, Vocabulary
from tasks.core.storage.store import ObjectRef, Outcome, StageKey, Store

KEPT = "kept"


def check_quality(store: Store, counted: Counted, vocabulary: Vocabulary, recipe: Recipe) -> Outcome[Checked]:
    """Measure the cells of a partition and leave out those beyond a bound of the recipe.

    The cells' metadata gains scanpy's columns `n_genes_by_counts`, `total_counts` and `pct_counts_mt`.

    Raises:
        SettingsError: the share of mitochondrial counts is bounded, and no gene is known to be mitochondrial.
    """
    bounds = recipe.model_dump(include={"min_genes", "min_counts", "max_mito"})
    inputs = bounds | {"counts": counted.counts.key, "genes": vocabulary.key}
    key = StageKey(stage="quality", version=VERSION, inputs=inputs)

    def make() -> Checked:
        is_mito = _mitochondrial(store, vocabulary, recipe)[np.argsort(gene_ranks(store, counted.counts.order))]
        quality = CellQuality.join(
            [CellQuality.of(block, is_mito) for block in read_counts(store, counted.counts.blocks)]
        )
        failing = quality.failing(recipe)
        kept = ~np.any(list(failing.values()), axis=0)
        return _keep(store, key, counted, quality, kept).model_copy(
            update={"removed": {reason: int(which.sum()) for reason, which in failing.items()}}
        )

    return store.answer(key, Checked, make)


def passing(checked: Iterable[Checked], recipe: Recipe) -> list[Checked]:
    """Give the partitions that have cells left.

    Raises:
        DataError: none has.
    """
    checked = list(checked)
    left = [part for part in checked if not part.is_empty]
    if not left:
        seen = sum(part.quality.rows for part in checked)
        raise DataError(
            f"none of {seen:,} cells has at least {recipe.min_genes:,} genes, {recipe.min_counts:,} counts and at most "
            f"{recipe.max_mito:g} % mitochondrial counts: --min_genes, --min_counts and --max_mito set the bounds"
        )
    return left


def _mitochondrial(store: Store, vocabulary: Vocabulary, recipe: Recipe) -> npt.NDArray[np.bool_]:
    is_mito = is_mitochondrial(decode_table(store.get(vocabulary.table)).column(SYMBOL).to_pylist())
    if recipe.max_mito < 100 and not is_mito.any():
        raise SettingsError(
            f"--max_mito {recipe.max_mito:g}: no gene of the vocabulary has a symbol that begins with MT-, so the "
            "mitochondrial share of the counts is not known; --max_mito 100 goes without"
        )
    return is_mito


def _keep(store: Store, key: StageKey, counted: Counted, quality: CellQuality, kept: npt.NDArray[np.bool_]) -> Checked:
    measured = pa.table(
        {GENES_COLUMN: quality.genes, COUNTS_COLUMN: quality.counts, MITO_COLUMN: quality.mito, KEPT: kept}
    )
    metadata = decode_table(store.get(counted.cells.metadata))
    for name in (GENES_COLUMN, COUNTS_COLUMN, MITO_COLUMN):
        metadata = metadata.append_column(name, measured.column(name))
    rows, cells = pa.array(np.flatnonzero(kept)), int(kept.sum())
    refs, nonzeros, empty = _put_kept(store, key, counted, kept)
    common = {"key": key.digest, "cells": cells, "nonzeros": nonzeros}
    at = store.put(f"{key.folder}/metadata.arrow", encode_table(metadata.take(rows)), cells)
    return Checked(
        cells=counted.cells.model_copy(update=common | {"metadata": at}),
        counts=counted.counts.model_copy(update=common | {"blocks": refs, "empty_cells": empty}),
        quality=store.put(f"{key.folder}/quality.arrow", encode_table(measured), len(kept)),
        removed={},
    )


def _put_kept(
    store: Store, key: StageKey, counted: Counted, kept: npt.NDArray[np.bool_]
) -> tuple[tuple[ObjectRef, ...], int, int]:
    """Give the blocks of the cells that were kept, their nonzeros and their empty cells; whole ones where they are."""
    refs: list[ObjectRef] = []
    nonzeros = empty = 0
    ends = np.cumsum([ref.rows for ref in counted.counts.blocks])
    blocks = read_counts(store, counted.counts.blocks)
    for ref, block, of_block in zip(counted.counts.blocks, blocks, np.split(kept, ends[:-1]), strict=True):
        if not of_block.any():
            continue
        left = block if of_block.all() else block.take(np.flatnonzero(of_block))
        refs.append(ref if left is block else put_counts(store, key, len(refs), left, counted.counts.order.genes))
        nonzeros += len(left.values)
        empty += int((np.diff(left.offsets) == 0).sum())
    return tuple(refs), nonzeros, empty
