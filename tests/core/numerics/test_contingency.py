import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from tasks.core.numerics.contingency import Contingency


@pytest.mark.parametrize("shape", [(3, 3), (4, 7), (1, 1), (1, 5), (9, 2)])
def test_agreements_are_sklearn_s_and_blocks_add_up(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    classes = rng.integers(shape[0], size=500)
    clusters = np.where(rng.random(500) < 0.3, rng.integers(shape[1], size=500), classes % shape[1])
    table = Contingency.of(classes[:200], clusters[:200], *shape) + Contingency.of(
        classes[200:], clusters[200:], *shape
    )
    assert table.adjusted_rand_index == pytest.approx(adjusted_rand_score(classes, clusters))
    assert table.normalized_mutual_information == pytest.approx(normalized_mutual_info_score(classes, clusters))


def test_recalls_are_of_clusters_that_no_two_classes_share() -> None:
    table = Contingency(np.array([[60, 40, 0], [50, 0, 0], [0, 0, 10], [0, 0, 30], [0, 0, 0]]))
    np.testing.assert_allclose(table.recalls, [0.4, 1.0, 0.0, 1.0, 0.0])
