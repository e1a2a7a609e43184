import io

import numpy as np
import pytest
from PIL import Image

from tasks.core.results import plots

LARGEST = 150_000


def cells(number: int, components: int, clusters: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, clusters, number)
    return rng.normal(0, 6, (clusters, components))[labels] + rng.normal(size=(number, components)), labels


def pixels(picture: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(picture)).convert("RGB"))


@pytest.mark.parametrize(("components", "clusters"), [(1, 1), (2, 3), (3, 10), (50, 20), (4, 100)])
def test_an_embedding_is_a_small_picture_the_same_each_time(components: int, clusters: int) -> None:
    points, labels = cells(4000, components, clusters)
    sizes = {name: 10 * name for name in range(clusters)}
    first, again = (plots.embedding(points, labels, sizes, [0.1] * components) for _ in range(2))
    assert first == again
    assert len(first) < LARGEST
    assert pixels(first).std() > 10


def test_a_cluster_keeps_its_colour_whatever_others_there_are() -> None:
    points = np.tile([[0.0, 0.0], [50.0, 50.0], [-50.0, 50.0]], (3000, 1))
    labels = np.tile([7, 3, 4], 3000)
    colour = {(0x92, 0xDA, 0xDD): 9, (0xB9, 0xAC, 0x70): 7}
    for rgb, name in colour.items():
        picture = pixels(plots.embedding(points, np.where(labels == 7, name, labels), {3: 1, 4: 1, name: 90}, [0, 0]))
        assert (np.abs(picture.astype(int) - rgb).max(axis=2) < 8).sum() > 500


def test_a_scree_plot_takes_components_past_the_rank_and_unsettled_ones() -> None:
    ratios, residuals = np.array([0.2, 0.1, 0.0]), np.array([1e-6, 1e-2, 0.0])
    mixed = plots.scree(ratios, residuals, residuals <= 1e-3)
    nothing = plots.scree(np.zeros(1), np.zeros(1), np.array([True]))
    assert len(mixed) < LARGEST
    assert pixels(mixed).shape == pixels(nothing).shape


@pytest.mark.parametrize("runs", [1, 2, 60])
def test_a_history_is_a_small_picture_whatever_is_not_known(runs: int) -> None:
    numbers = np.arange(1, runs + 1)
    alike = np.full((runs, 2), np.nan)
    alike[1:] = 0.9
    picture = plots.history(numbers, 1_000 * numbers, np.full(runs, 0.1), alike)
    assert len(picture) < LARGEST
    assert pixels(picture).std() > 10
