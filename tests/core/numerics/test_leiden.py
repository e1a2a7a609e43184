import random
import warnings

import numpy as np
import pytest
import scanpy as sc
from sklearn.metrics import adjusted_rand_score

from tasks.core.base.errors import SettingsError
from tasks.core.numerics.fold import Blocks
from tasks.core.numerics.leiden import leiden
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
    assert found.sizes_m.sum() == len(cells)
    assert 0.5 < found.modularity < 1.0


def test_the_seed_decides_alone_and_igraph_is_left_as_it_was() -> None:
    cells = blobs(2_000, 8)
    random.seed(1)
    before = random.getstate()
    one, three = (leiden(Blocks.cut(cells, 500, workers), resolution=2.0, seed=7) for workers in (1, 3))
    assert random.getstate() == before
    assert np.array_equal(one.labels_m, three.labels_m)
    assert np.array_equal(one.centres_mk, three.centres_mk)


@pytest.mark.parametrize("cells", [1, 2, 5, 40])
def test_few_or_equal_cells_have_communities(cells: int) -> None:
    found = leiden(Blocks.cut(np.ones((cells, 3)), 10, 1))
    assert len(found) == 1
    assert found.label(np.ones((cells, 3))).tolist() == [0] * cells


def test_more_microclusters_than_cells_are_refused() -> None:
    with pytest.raises(SettingsError, match="microclusters=9 must be at most the cells, 5"):
        leiden(Blocks.cut(blobs(5, 2), 5, 1), microclusters=9)
