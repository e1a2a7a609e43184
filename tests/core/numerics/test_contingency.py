import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from tasks.core.numerics.block import IntArray
from tasks.core.numerics.contingency import Contingency, tabulate
from tasks.core.numerics.fold import Blocks
from tests.memory import most_memory


@pytest.mark.parametrize("shape", [(3, 3), (4, 7), (1, 1), (1, 5), (9, 2)])
def test_agreements_are_sklearn_s_and_blocks_add_up(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    classes = rng.integers(shape[0], size=500)
    clusters = np.where(rng.random(500) < 0.3, rng.integers(shape[1], size=500), classes % shape[1])
    table = Contingency.of(classes[:200], clusters[:200], *shape) + Contingency.of(
        classes[200:], clusters[200:], *shape
    )
    in_passes = tabulate(Blocks.cut(classes, 90, 2), Blocks.cut(clusters, 90, 2), *shape)
    assert np.array_equal(in_passes.cells, table.cells)
    assert table.adjusted_rand_index == pytest.approx(adjusted_rand_score(classes, clusters))
    assert table.normalized_mutual_information == pytest.approx(normalized_mutual_info_score(classes, clusters))


def test_recalls_are_of_clusters_that_no_two_classes_share() -> None:
    table = Contingency(np.array([[60, 40, 0], [50, 0, 0], [0, 0, 10], [0, 0, 30], [0, 0, 0]]))
    np.testing.assert_allclose(table.recalls, [0.4, 1.0, 0.0, 1.0, 0.0])


def test_a_block_takes_no_room_for_pairs_that_it_does_not_have() -> None:
    many = np.arange(4_000)

    def counted(blocks: int) -> int:
        cells: Blocks[IntArray] = Blocks.cut(np.tile(many, blocks), len(many), 2)
        with most_memory() as most:
            table = tabulate(cells, cells, len(many), len(many))
        assert (table.cells.diagonal() == blocks).all()
        return most.bytes

    table = len(many) ** 2 * np.int64().nbytes
    assert counted(6) < 1.2 * table
