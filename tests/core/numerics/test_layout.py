import warnings

import numpy as np
import pytest

from tasks.core.base.errors import SettingsError
from tasks.core.numerics.layout import place_among, umap_layout


def blobs(cells: int, apart: float) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, cells)
    return apart * np.eye(3, 10)[labels] + rng.normal(size=(cells, 10)), labels


def test_cells_that_belong_together_lie_together_and_the_same_each_time() -> None:
    z, labels = blobs(600, 12.0)
    first, again = (umap_layout(z[:300], seed=3) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert first.dtype == np.float32
    assert first.shape == (300, 2)
    centres = np.array([first[labels[:300] == label].mean(axis=0) for label in range(3)])
    for cells, of in ((first, labels[:300]), (place_among(z[300:], z[:300], first), labels[300:])):
        nearest = np.linalg.norm(cells[:, None] - centres, axis=2).argmin(axis=1)
        np.testing.assert_array_equal(nearest, of)


@pytest.mark.parametrize("cells", [0, 1, 2, 7, 8, 9, 20])
@pytest.mark.parametrize("components", [1, 4])
def test_few_cells_and_equal_ones_have_a_place_each(cells: int, components: int) -> None:
    rng = np.random.default_rng(1)
    for z in (rng.normal(size=(cells, components)), np.zeros((cells, components))):
        layout = umap_layout(z, seed=0)
        assert layout.shape == (cells, 2)
        assert np.isfinite(layout).all()
        if cells:
            assert np.isfinite(place_among(z, z, layout)).all()


def test_a_cell_of_the_sample_keeps_its_place() -> None:
    z, _ = blobs(50, 3.0)
    layout = np.random.default_rng(2).normal(size=(50, 2)).astype(np.float32)
    np.testing.assert_allclose(place_among(z, z, layout), layout, atol=1e-5)
    with pytest.raises(SettingsError, match="a map of 0 cells"):
        place_among(z, z[:0], layout[:0])


def test_warnings_of_others_are_heard_after() -> None:
    umap_layout(blobs(30, 3.0)[0], seed=0)
    with pytest.warns(ImportWarning, match="Tensorflow"):
        warnings.warn("Tensorflow not installed", ImportWarning, stacklevel=1)
