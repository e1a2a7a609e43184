import numpy as np
import pytest
from sklearn.metrics import calinski_harabasz_score, davies_bouldin_score, silhouette_score

from tasks.core.numerics.block import IntArray, NumberArray
from tasks.core.numerics.fold import Blocks
from tasks.core.numerics.separation import Separation, separation, silhouette
from tests.core.numerics.test_lloyd import blobs
from tests.memory import most_memory


def scores(cells: NumberArray, labels: IntArray, clusters: int, size: int = 300, workers: int = 1) -> Separation | None:
    return separation(Blocks.cut(cells, size, workers), Blocks.cut(labels, size, workers), clusters)


def test_scores_are_sklearn_s_and_empty_clusters_count_for_nothing() -> None:
    cells = blobs(2_000, 5)
    labels = (cells[:, 0] > 1.0).astype(int) + 2 * (cells[:, 1] > 0.0)
    found = scores(cells, labels + (labels > 1), 6)
    assert found is not None
    assert found.calinski_harabasz == pytest.approx(calinski_harabasz_score(cells, labels), rel=1e-9)
    assert found.davies_bouldin == pytest.approx(davies_bouldin_score(cells, labels), rel=1e-9)
    assert silhouette(cells[:500], labels[:500]) == pytest.approx(silhouette_score(cells[:500], labels[:500]))
    assert scores(cells, labels + (labels > 1), 6, workers=3) == found


@pytest.mark.parametrize("labels", [[0] * 6, list(range(6))])
def test_scores_that_are_not_defined_are_none(labels: list[int]) -> None:
    cells = blobs(6, 2)
    assert scores(cells, np.array(labels), 6) is None
    assert silhouette(cells, np.array(labels)) is None


def test_clusters_of_equal_cells_have_scores() -> None:
    cells = np.repeat([[0.0, 0.0], [3.0, 4.0]], 4, axis=0)
    assert scores(cells, np.repeat([0, 1], 4), 2) == Separation(1.0, 0.0)


def test_memory_does_not_grow_with_the_square_of_the_clusters() -> None:
    cells = np.random.default_rng(0).normal(size=(6_000, 10))
    labels = np.arange(6_000) % 3_000
    scores(cells, labels % 10, 10)
    with most_memory() as few:
        scores(cells, labels % 1_000, 1_000)
    with most_memory() as many:
        found = scores(cells, labels, 3_000)
    assert many.bytes < 1.5 * few.bytes
    assert found is not None
    assert found.davies_bouldin == pytest.approx(davies_bouldin_score(cells, labels), rel=1e-9)
