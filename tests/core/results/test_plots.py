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


@pytest.mark.parametrize("clusters", [1, 20, 100])
def test_a_scatter_plot_is_a_small_picture_the_same_each_time(clusters: int) -> None:
    points, labels = cells(4000, 4, clusters)
    planes = [(("pc1", "pc2"), points[:, :2]), (("pc3", "pc4"), points[:, 2:])]
    values = labels.tolist()
    first, again = (plots.scatter(planes, values, plots.colours_of(values)) for _ in range(2))
    assert first == again
    assert len(first) < LARGEST
    assert pixels(first).std() > 10


def test_a_cluster_keeps_its_colour_whatever_others_there_are() -> None:
    points = np.tile([[0.0, 0.0], [50.0, 50.0], [-50.0, 50.0]], (3000, 1)) + np.tile([0, 9], 4500)[:, None]
    for rgb, name in {(0x92, 0xDA, 0xDD): 9, (0xB9, 0xAC, 0x70): 7}.items():
        labels = np.tile([name, 3, 4], 3000).tolist()
        colours = plots.colours_of(labels)
        assert colours[name] == ("#{:02x}{:02x}{:02x}".format(*rgb), str(name))
        picture = pixels(plots.scatter([(("", ""), points)], labels, colours))
        assert (np.abs(picture.astype(int) - rgb).max(axis=2) < 8).sum() > 10


def test_classes_are_told_apart_by_their_letters_and_colours() -> None:
    values: list[str | None] = [None, *(f"class {at % 30}" for at in range(400))]
    styles = plots.colours_of(values)
    assert (
        len(styles) == len({colour for colour, _ in styles.values()}) == len({key for _, key in styles.values()}) == 12
    )
    # One class in two places, which its median is between, and others upon it.
    points = np.array([[0.0, 0], [0.1, 0.1], [10, 10], [5, 5], [5, 5], [5, 5]])
    places = plots.label_places(points, np.array([0, 0, 0, 1, 1, 2]), 3)
    assert np.linalg.norm(places[0]) < 1
    assert np.isfinite(places).all()


def test_a_histogram_draws_each_bin_as_tall_as_it_has_cells() -> None:
    picture = pixels(plots.histogram(np.array([10, 0, 5]), np.array([0.0, 1, 2, 3]), [1.5])).astype(int)
    blue = np.abs(picture - [0x3F, 0x90, 0xDA]).max(axis=2) < 8
    tall = [blue[:, int(at * blue.shape[1])].sum() for at in (0.2, 0.45, 0.8)]
    assert tall[1] == 0
    assert tall[0] / tall[2] == pytest.approx(2, abs=0.1)


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
