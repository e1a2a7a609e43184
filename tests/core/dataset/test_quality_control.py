from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import scipy.sparse as sp

from tasks.core.base.errors import DataError, SettingsError
from tasks.core.base.recipes import Recipe
from tasks.core.dataset.plan import SYMBOL
from tasks.core.dataset.quality_control import KEPT, check_quality, passing
from tasks.core.dataset.stored_blocks import gene_ranks, read_counts
from tasks.core.numerics.block import Block, decode_table
from tasks.core.references.cells import Checked
from tests.core.dataset.landed import Landed, land
from tests.small_dataset import cell, gene_table, random_cells, table_of, write_dataset

BOUNDS = Recipe(min_genes=800, min_counts=1_500, max_mito=15.0)


def checked(landed: Landed, recipe: Recipe) -> list[Checked]:
    return [check_quality(landed.store, part, landed.plan.vocabulary, recipe).result for part in landed.counted]


def counts_of(landed: Landed, parts: list[Checked]) -> Any:
    blocks = [block for part in parts for block in read_counts(landed.store, part.counts.blocks)]
    by_rank = Block.join(blocks).matrix(landed.plan.vocabulary.genes)
    return sp.csr_matrix(by_rank[:, gene_ranks(landed.store, parts[0].counts.order)])


def test_quality_is_scanpy_s_and_cells_beyond_a_bound_go(real_dataset: Path, tmp_path: Path) -> None:
    import anndata  # noqa: PLC0415  (slow)
    import scanpy  # noqa: PLC0415

    landed = land(real_dataset, tmp_path, partition_cells=200, block_cells=50)
    all_cells = anndata.AnnData(counts_of(landed, checked(landed, Recipe(min_genes=1))))
    symbols = decode_table(landed.store.get(landed.plan.vocabulary.table)).column(SYMBOL).to_pylist()
    all_cells.var["mt"] = [symbol.startswith("MT-") for symbol in symbols]
    scanpy.pp.calculate_qc_metrics(all_cells, qc_vars=["mt"], percent_top=None, log1p=False, inplace=True)
    expected = pl.from_pandas(all_cells.obs[["n_genes_by_counts", "total_counts", "pct_counts_mt"]])
    within = (pl.col("n_genes_by_counts") >= 800) & (pl.col("total_counts") >= 1_500) & (pl.col("pct_counts_mt") <= 15)

    parts = checked(landed, BOUNDS)
    measured = pl.concat([pl.DataFrame(decode_table(landed.store.get(part.quality))) for part in parts])
    kept = pl.concat([pl.DataFrame(decode_table(landed.store.get(part.cells.metadata))) for part in parts])

    np.testing.assert_allclose(measured.drop(KEPT).to_numpy(), expected.to_numpy(), rtol=1e-5)
    np.testing.assert_array_equal(measured[KEPT], expected.select(within).to_series())
    np.testing.assert_allclose(kept[expected.columns], expected.filter(within).to_numpy(), rtol=1e-5)
    assert (counts_of(landed, parts) != all_cells.X[measured[KEPT].to_numpy()]).nnz == 0
    assert sum(part.removed["min_genes"] for part in parts) == (expected["n_genes_by_counts"] < 800).sum()
    assert 0 < sum(part.cells.cells for part in parts) == len(kept) < len(measured)


def test_no_cell_left_is_told_with_the_bounds(tmp_path: Path) -> None:
    landed = land(write_dataset(tmp_path / "d", [table_of(random_cells(20, 40))], gene_table(40)), tmp_path / "s")
    with pytest.raises(DataError, match=r"none of 20 cells has at least 5,000 genes"):
        passing(checked(landed, Recipe(min_genes=5_000)), Recipe(min_genes=5_000))


def test_a_bound_on_a_share_that_is_not_known_is_refused(tmp_path: Path) -> None:
    landed = land(write_dataset(tmp_path / "d", [table_of(random_cells(20, 40))], gene_table(40)), tmp_path / "s")
    with pytest.raises(SettingsError, match=r"--max_mito 20: no gene .* MT-"):
        checked(landed, Recipe(max_mito=20.0))


def test_a_cell_without_counts_has_no_mitochondrial_share(tmp_path: Path) -> None:
    landed = land(write_dataset(tmp_path / "d", [table_of([cell({}), cell({3: 2.0})])], gene_table(40)), tmp_path / "s")
    parts = checked(landed, Recipe(min_counts=1))
    assert decode_table(landed.store.get(parts[0].quality)).column("pct_counts_mt").to_pylist() == [0.0, 0.0]
    assert parts[0].cells.cells == 1
