import random
import warnings
from functools import cache
from typing import Any

import anndata as ad
import numpy as np
import pytest
import scanpy as sc
import scipy.sparse as sp
from sklearn.metrics import adjusted_rand_score

from tasks.core.numerics.fold import Blocks
from tasks.core.numerics.leiden import leiden, links
from tests.core.numerics.mixology import variable
from tests.core.numerics.test_harmony import corrected, real
from tests.core.numerics.test_lloyd import blobs


def test_finds_what_scanpy_finds_on_real_cells_without_their_batches() -> None:
    adata = variable().copy()
    adata.obsm["X_harmony"] = corrected(real())[0]
    with warnings.catch_warnings(action="ignore"):
        sc.pp.neighbors(adata, use_rep="X_harmony")
        sc.tl.leiden(adata, resolution=0.1, flavor="igraph", n_iterations=2, directed=False)
    labels = leiden(Blocks.cut(adata.obsm["X_harmony"], 300, 1), resolution=0.1).label(adata.obsm["X_harmony"])
    assert adjusted_rand_score(labels, adata.obs["leiden"]) >= 0.98
    assert adjusted_rand_score(labels, adata.obs["cell_line_id"]) >= 0.98


def test_well_separated_cells_are_parted_and_numbered_by_size() -> None:
    rng = np.random.default_rng(0)
    kinds = rng.choice(4, size=3_000, p=[0.1, 0.5, 0.15, 0.25])
    cells = 30.0 * np.eye(4)[kinds] + rng.normal(size=(3_000, 4))
    found = leiden(Blocks.cut(cells, 1_000, 2), resolution=0.1)
    labels = found.label(cells)
    assert np.array_equal(labels, np.array([3, 0, 2, 1])[kinds])
    assert len(found.nodes_mk) == len(cells)
    assert 0.5 < found.modularity < 1.0


def test_the_seed_decides_alone_and_igraph_is_left_as_it_was() -> None:
    cells = blobs(2_000, 8)
    random.seed(1)
    before = random.getstate()
    one, three = (leiden(Blocks.cut(cells, 500, workers), 2.0, 7, most_nodes=1_500) for workers in (1, 3))
    assert random.getstate() == before
    assert np.array_equal(one.labels_m, three.labels_m)
    assert np.array_equal(one.label(cells), three.label(cells))


@pytest.mark.parametrize("cells", [1, 2, 5, 40])
def test_few_or_equal_cells_have_communities(cells: int) -> None:
    found = leiden(Blocks.cut(np.ones((cells, 3)), 10, 1))
    assert len(found) == 1
    assert found.label(np.ones((cells, 3))).tolist() == [0] * cells


def overlapping(cells: int, kinds: int, apart: float = 0.8) -> tuple[np.ndarray, np.ndarray]:
    """Cells of kinds that overlap, and the kind of each."""
    rng = np.random.default_rng(0)
    which = rng.choice(kinds, size=cells, p=rng.dirichlet(np.full(kinds, 3.0)))
    scale = np.linspace(3.0, 1.0, 20)
    middles = apart * rng.normal(size=(kinds, 20)) * scale
    return (middles[which] + scale * rng.normal(size=(cells, 20))).astype(np.float32), which


@cache
def by_scanpy(kinds: int, seed: int) -> Any:
    cells, _ = overlapping(3_000, kinds)
    adata = ad.AnnData(np.zeros((len(cells), 1), np.float32), obsm={"X": cells})
    with warnings.catch_warnings(action="ignore"):
        sc.pp.neighbors(adata, use_rep="X", random_state=seed)
        sc.tl.leiden(adata, flavor="igraph", n_iterations=2, directed=False, random_state=seed)
    return adata


@pytest.mark.parametrize("kinds", [8, 12])
def test_overlapping_kinds_are_told_apart_as_well_as_by_scanpy_at_the_default_resolution(kinds: int) -> None:
    cells, which = overlapping(3_000, kinds)
    theirs = [by_scanpy(kinds, seed).obs["leiden"].cat.codes for seed in range(3)]
    ours = [leiden(Blocks.cut(cells, 700, 1), seed=seed).label(cells) for seed in range(3)]
    scores = [[adjusted_rand_score(which, labels) for labels in of] for of in (theirs, ours)]
    assert min(scores[1]) >= np.mean(scores[0]) - 0.02
    assert {labels.max() for labels in ours} <= {labels.max() + more for labels in theirs for more in (-1, 0, 1)}


def test_links_are_scanpys_connectivities() -> None:
    cells, _ = overlapping(3_000, 8)
    ours = links(cells.astype(np.float64))
    theirs = sp.triu(by_scanpy(8, 0).obsp["connectivities"], 1)
    assert abs(ours - theirs).max() < 1e-3


def test_a_cell_of_the_graph_has_its_own_community() -> None:
    cells, _ = overlapping(3_000, 8)
    found = leiden(Blocks.cut(cells, 700, 1), most_nodes=1_000)
    assert len(found.nodes_mk) == 1_000
    assert np.array_equal(found.label(found.nodes_mk), found.labels_m)
    assert np.array_equal(found.label(cells), np.concatenate([found.label(part) for part in np.split(cells, 3)]))


def test_cells_that_are_not_of_the_graph_join_their_kind() -> None:
    cells, which = overlapping(12_000, 5, apart=1.2)
    drawn, all_of_them = (leiden(Blocks.cut(cells, 2_000, 2), most_nodes=nodes) for nodes in (3_000, 12_000))
    scores = [adjusted_rand_score(which, found.label(cells)) for found in (drawn, all_of_them)]
    assert scores[0] >= scores[1] - 0.02
    assert scores[1] > 0.9


def test_equal_cells_among_others_are_of_one_community() -> None:
    cells, _ = overlapping(500, 3)
    cells[:60] = cells[0]
    labels = leiden(Blocks.cut(cells, 100, 1)).label(cells)
    assert len(set(labels[:60])) == 1
