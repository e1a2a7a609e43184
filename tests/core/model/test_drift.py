from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from scipy.linalg import subspace_angles
from sklearn.decomposition import PCA, TruncatedSVD

from tasks.core.base.settings import Settings
from tasks.core.model.drift import Drift, compare, overlap, principal_angles
from tasks.core.numerics.block import encode_matrix
from tasks.core.references.cells import GeneOrder
from tasks.core.references.model import Clustering, Fitted, Model
from tasks.core.storage.store import Store

GENES = 60


def shifted_cells(seed: int = 0) -> np.ndarray:
    """Cells of twenty components around a mean that is far from zero, as that of counts is."""
    rng = np.random.default_rng(seed)
    axes = np.linalg.qr(np.random.default_rng(0).normal(size=(GENES, 20)))[0]
    cells: np.ndarray = (
        5.0 + rng.normal(size=(500, 20)) * np.linspace(2.0, 1.0, 20) @ axes.T + 0.1 * rng.normal(size=(500, GENES))
    )
    return cells


def fitted(store: Store, name: str, svd: PCA | TruncatedSVD, kept: int, centres: np.ndarray) -> Fitted:
    """What a run has learnt, with this many of the components: the others are zeros, as those past the rank are."""
    v_gk = np.zeros((GENES, 20), np.float32)
    v_gk[:, :kept] = svd.components_[:kept].T

    def padded(numbers: np.ndarray) -> tuple[float, ...]:
        return tuple(np.pad(numbers[:kept], (0, 20 - kept)))

    model = Model(
        key=name,
        components=store.keep("given", "components.arrow", encode_matrix(v_gk), GENES),
        singular_values=padded(svd.singular_values_),
        residuals=(0.0,) * 20,
        settled=(True,) * 20,
        variances=padded(svd.explained_variance_),
        explained_variance_ratio=padded(svd.explained_variance_ratio_),
        passes=1,
        rank=kept,
    )
    clustering = Clustering(
        key=name,
        names=tuple(range(len(centres))),
        centres=store.keep("given", "centres.arrow", encode_matrix(centres), len(centres)),
        labels=(),
        sizes=(500,) + (0,) * (len(centres) - 1),
        inertia=0.0,
        named=len(centres),
        passes=1,
        settled=True,
    )
    order = GeneOrder(key="order", genes=GENES, ranks=model.components)
    return Fitted(vocabulary="v", shards={}, cells=(), order=order, model=model, clustering=clustering)


def drift(folder: Path, svds: Sequence[PCA | TruncatedSVD], kept: int = 20, centres: int = 3) -> Drift:
    """From a run with all components of the first to one with some of the second's."""
    store, ones = Store(str(folder)), np.ones((centres, 20))
    before, now = fitted(store, "before", svds[0], 20, ones), fitted(store, "now", svds[1], kept, ones)
    return compare(store, before, now, Settings(store=str(folder)))


@pytest.mark.parametrize("method", [PCA, TruncatedSVD])
@pytest.mark.parametrize("kept", [0, 1, 19, 20])
def test_a_run_that_lost_components_spans_the_variance_of_those_it_has(
    tmp_path: Path, method: type[PCA | TruncatedSVD], kept: int
) -> None:
    cells = shifted_cells()
    svd = method(20).fit(cells)
    spread = ((cells - cells.mean(axis=0)) @ svd.components_.T).var(axis=0)
    found = drift(tmp_path, [svd, svd], kept)
    assert found.overlap == pytest.approx(spread[:kept].sum() / spread.sum(), abs=1e-5)
    assert len(found.angles) == kept
    assert any("--drift_overlap" in line for line in found.exceeded) == (found.overlap < 0.9)
    assert found.overlap < 0.2 or kept > 1


def test_the_overlap_is_the_share_of_what_the_cells_vary_along_the_components_of_before(tmp_path: Path) -> None:
    cells = shifted_cells()
    before, now = PCA(20).fit(cells), PCA(20).fit(shifted_cells(seed=1)[:40])
    scores = (cells - cells.mean(axis=0)) @ before.components_.T
    spanned = scores @ before.components_ @ now.components_.T
    found = drift(tmp_path, [before, now])
    assert 0.5 < found.overlap < 0.999
    assert found.overlap == pytest.approx((spanned**2).sum() / (scores**2).sum(), abs=1e-5)
    expected = np.degrees(subspace_angles(before.components_.T, now.components_.T))[::-1]
    np.testing.assert_allclose(found.angles, expected, atol=1e-3)


def test_angles_are_those_of_scipy_small_ones_too_and_zeros_span_nothing() -> None:
    rng = np.random.default_rng(0)
    v_gk, w_gl = (np.linalg.qr(rng.normal(size=(40, columns)))[0] for columns in (5, 3))
    expected = np.degrees(subspace_angles(v_gk, w_gl))[::-1]
    np.testing.assert_allclose(principal_angles(v_gk, w_gl), expected)
    padded = np.concatenate([w_gl, np.zeros((40, 2))], axis=1)
    np.testing.assert_allclose(principal_angles(v_gk, padded), expected)
    assert principal_angles(v_gk, np.zeros((40, 2))).size == 0
    assert principal_angles(v_gk, v_gk).max() < 1e-12


def test_where_nothing_varied_nothing_is_lost() -> None:
    assert overlap(np.zeros((4, 2)), np.eye(4)[:, :2], np.zeros(2)) == 1.0
