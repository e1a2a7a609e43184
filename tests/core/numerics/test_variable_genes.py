from collections.abc import Mapping
from functools import reduce
from operator import add
from typing import Any

import numpy as np
import pytest

from tasks.core.base.errors import SettingsError
from tasks.core.numerics.block import Block
from tasks.core.numerics.group_moments import GroupMoments, counts_per_million
from tasks.core.numerics.regular_variances import RegularVariances
from tasks.core.numerics.variable_genes import (
    VariableGenes,
    check_batches,
    choose_seurat,
    choose_seurat_by_batch,
)
from tests.conftest import real_cells
from tests.core.numerics.batches import BatchedCells, pieces, scanpy

CHOSEN = 2_000


def by_scanpy(cells: BatchedCells, block: Block, number: int, flavor: str, key: str | None) -> Any:
    """The columns of `var` that scanpy makes of the block."""
    with scanpy() as sc:
        annotated = cells.scanpys(block)
        sc.pp.highly_variable_genes(annotated, n_top_genes=number, flavor=flavor, batch_key=key)
        return annotated.var


def codes_of(cells: BatchedCells, key: str | None) -> tuple[list[str], np.ndarray]:
    names, codes = np.unique(cells.batches if key else ["all"] * len(cells.batches), return_inverse=True)
    return names.tolist(), codes


def moments(cells: BatchedCells, block: Block, key: str | None, size: int = 10**6) -> GroupMoments:
    names, codes = codes_of(cells, key)
    return reduce(
        add, (GroupMoments.of(part, of_part, names, cells.genes) for part, of_part in pieces(block, codes, size))
    )


def seurat(cells: BatchedCells, number: int, key: str | None, size: int = 10**6) -> VariableGenes:
    cpm = moments(cells, counts_per_million(cells.normalized), key, size)
    return choose_seurat_by_batch(cpm, number) if key else choose_seurat(cpm.whole, number)


def seurat_v3(cells: BatchedCells, number: int, key: str | None, size: int = 10**6) -> VariableGenes:
    names, codes = codes_of(cells, key)
    variances = RegularVariances.fit(moments(cells, cells.raw, key, size))
    above = (
        GroupMoments.above(part, of_part, names, variances.bounds) for part, of_part in pieces(cells.raw, codes, size)
    )
    return variances.choose(reduce(add, above), number)


def assert_close(ours: Mapping[str, np.ndarray], theirs: Any, names: list[str]) -> None:
    for name in names:
        np.testing.assert_allclose(ours[name], theirs[name].to_numpy(), rtol=1e-5, atol=1e-6, err_msg=name)


def tied(values: np.ndarray) -> np.ndarray:
    """Which values have an equal, but for rounding."""
    order = np.argsort(values)
    near = np.diff(values[order]) < 1e-9
    equal = np.zeros(len(values), bool)
    equal[order] = np.append(near, False) | np.append(False, near)
    return equal


@pytest.mark.parametrize("key", [None, "batch"])
@pytest.mark.parametrize("name", ["mixology", "mixology-thin"])
def test_seurat_chooses_scanpy_s_genes_of_real_cells(name: str, key: str | None) -> None:
    cells = BatchedCells.read(real_cells(name))
    theirs = by_scanpy(cells, cells.normalized, CHOSEN, "seurat", key)
    ours = seurat(cells, CHOSEN, key)
    np.testing.assert_array_equal(ours.chosen, theirs["highly_variable"])
    assert_close(ours.statistics, theirs, ["means", "dispersions", "dispersions_norm"])
    if key:
        np.testing.assert_array_equal(ours.statistics["highly_variable_nbatches"], theirs["highly_variable_nbatches"])


@pytest.mark.parametrize(("name", "key"), [("mixology", None), ("mixology", "batch"), ("mixology-thin", None)])
def test_seurat_v3_chooses_scanpy_s_genes_of_real_cells_but_for_ties(name: str, key: str | None) -> None:
    cells = BatchedCells.read(real_cells(name))
    theirs = by_scanpy(cells, cells.raw, CHOSEN, "seurat_v3", key)
    ours = seurat_v3(cells, CHOSEN, key)
    assert_close(ours.statistics, theirs, ["means", "variances", "variances_norm"])
    assert ours.chosen.sum() == theirs["highly_variable"].sum() == CHOSEN
    # scanpy ranks by a sort that is not stable, so genes with equal variances come in any order. A gene is in one list
    # alone only if its normalized variance is also that of another gene; without batches, of the last one chosen.
    differ = ours.chosen != theirs["highly_variable"].to_numpy()
    normalized = ours.statistics["variances_norm"]
    assert tied(normalized)[differ].all()
    assert differ.sum() <= CHOSEN / 100
    if not key:
        np.testing.assert_allclose(normalized[differ], np.sort(normalized)[-CHOSEN], rtol=1e-9)


def test_seurat_v3_refuses_batches_too_thin_for_a_trend_as_scanpy_does() -> None:
    cells = BatchedCells.read(real_cells("mixology-thin"))
    with pytest.raises(ValueError, match="near singularities"):
        by_scanpy(cells, cells.raw, CHOSEN, "seurat_v3", "batch")
    with pytest.raises(SettingsError, match=r"batch 'plate1', 240 cells in which \d+ genes vary, are too few"):
        seurat_v3(cells, CHOSEN, "batch")


# Of 60 genes, many are alone in a bin or two in it.
@pytest.mark.parametrize("genes", [60, 800])
@pytest.mark.parametrize("key", [None, "batch"])
def test_seurat_chooses_scanpy_s_genes_of_simulated_cells(genes: int, key: str | None) -> None:
    for seed in range(5):
        cells = BatchedCells.simulated(genes=genes, seed=seed)
        theirs = by_scanpy(cells, cells.normalized, genes // 10, "seurat", key)
        ours = seurat(cells, genes // 10, key)
        assert_close(ours.statistics, theirs, ["means", "dispersions", "dispersions_norm"])
        normalized = ours.statistics["dispersions_norm"]
        differ = ours.chosen != theirs["highly_variable"].to_numpy()
        last = np.sort(normalized[~np.isnan(normalized)])[-genes // 10]
        # Genes that tie with the last chosen but for rounding, as the two of a bin do, are chosen here.
        np.testing.assert_allclose(normalized[differ], last, rtol=1e-9)


@pytest.mark.parametrize("key", [None, "batch"])
def test_seurat_v3_chooses_scanpy_s_genes_of_simulated_cells(key: str | None) -> None:
    for seed in range(5):
        cells = BatchedCells.simulated(seed=seed)
        theirs = by_scanpy(cells, cells.raw, 80, "seurat_v3", key)
        ours = seurat_v3(cells, 80, key)
        np.testing.assert_array_equal(ours.chosen, theirs["highly_variable"])
        names = ["means", "variances", "variances_norm"]
        assert_close(ours.statistics, theirs, names + (["highly_variable_nbatches"] if key else []))
        # Two genes that tie in a batch come in either order: the sort is not stable, and another on another processor.
        ranks = ours.statistics["highly_variable_rank"], theirs["highly_variable_rank"].to_numpy()
        np.testing.assert_allclose(*ranks, rtol=0, atol=1)


@pytest.mark.parametrize("key", [None, "batch"])
@pytest.mark.parametrize("choose", [seurat, seurat_v3])
def test_blocks_do_not_matter(choose: Any, key: str | None) -> None:
    cells = BatchedCells.simulated()
    whole = choose(cells, 80, key)
    for size in (1, 7, 250):
        np.testing.assert_array_equal(choose(cells, 80, key, size).chosen, whole.chosen)


def test_more_genes_than_vary_are_refused() -> None:
    cells = BatchedCells.simulated(genes=100)
    vary = int((moments(cells, cells.raw, None).whole.variances > 0).sum())
    assert vary < 100, "the case must have genes that are not expressed"
    for choose in (seurat, seurat_v3):
        assert choose(cells, vary, None).chosen.sum() == vary
        for key in (None, "batch"):
            with pytest.raises(SettingsError, match=f"n_top_genes=100 must be from 1 to .* vary, {vary}"):
                choose(cells, 100, key)


def test_batches_that_are_none_are_refused() -> None:
    cells = BatchedCells.simulated(cells=60)
    alone = BatchedCells(cells.counts, ["lonely", *cells.batches[1:]])
    for choose in (seurat, seurat_v3):
        with pytest.raises(SettingsError, match="batch 'lonely' has a single cell"):
            choose(alone, 10, "batch")
    with pytest.raises(SettingsError, match="all cells are of one batch, 'same'"):
        check_batches(moments(BatchedCells(cells.counts, ["same"] * 60), cells.raw, "batch"))


@pytest.mark.parametrize("expressed", [0, 1, 3, 9])
def test_a_batch_with_hardly_a_gene_is_no_trouble_or_refused(expressed: int) -> None:
    cells = BatchedCells.simulated(genes=100)
    dense = cells.counts.toarray()
    dense[np.array(cells.batches) == "batch 1", expressed:] = 0
    poor = BatchedCells(type(cells.counts)(dense), cells.batches)
    assert seurat(poor, 20, "batch").chosen.sum() == 20
    with pytest.raises(SettingsError, match=r"batch 'batch 1', \d+ cells in which \d genes vary, are too few"):
        seurat_v3(poor, 20, "batch")
