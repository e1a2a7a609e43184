import tracemalloc
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

from tasks.core.numerics.block import Block
from tasks.core.numerics.krylov_svd import KrylovSVD
from tasks.core.numerics.ranked import RankedMatrix, rank_by_popularity


def test_popular_genes_come_first_and_ties_keep_their_order() -> None:
    assert rank_by_popularity(np.array([1, 5, 0, 5])).tolist() == [2, 0, 3, 1]


def test_a_matrix_in_memory_is_cut_and_its_columns_put_in_order() -> None:
    matrix = np.random.default_rng(0).integers(0, 2, (4_500, 6)).astype(np.float64)
    matrix[:, 3] = 0.0
    matrix[10:, 1] = 0.0
    ranked = RankedMatrix.of(sp.csr_array(matrix), workers=1)
    assert list(ranked.blocks.rows) == [2_000, 2_000, 500]
    together = Block.join([ranked.blocks.read(source) for source in ranked.blocks.sources]).matrix(6).toarray()
    assert ranked.moments.extent == 5, "the last column is that of no cell"
    assert not together[:, 5].any()
    seen = [0, 1, 2, 4, 5]
    assert np.array_equal(together[:, ranked.ranks[seen]], matrix[:, seen])
    assert ranked.ranks[[1, 3]].tolist() == [4, 5]
    np.testing.assert_allclose(ranked.moments.variances[ranked.ranks], matrix.var(axis=0), atol=1e-12)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_a_matrix_in_memory_takes_as_much_again_and_no_more(kind: Any) -> None:
    matrix: Any = sp.random_array((40_000, 300), density=0.1, rng=np.random.default_rng(0), format="csr", dtype=kind)
    again = matrix.nnz * (np.float32().nbytes + matrix.indices.itemsize) + matrix.indptr.nbytes
    tracemalloc.start()
    try:
        ranked = RankedMatrix.of(matrix, workers=1)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(ranked.blocks.sources) == 20
    assert most < 1.25 * again


def test_zeros_that_are_stored_are_no_values() -> None:
    matrix = sp.csr_array((np.array([0.0, 2.0, 0.0]), np.array([0, 1, 2]), np.array([0, 2, 3])), shape=(2, 3))
    ranked = RankedMatrix.of(matrix, workers=1)
    assert [ranked.blocks.read(source).values.tolist() for source in ranked.blocks.sources] == [[2.0]]
    assert matrix.nnz == 3, "it is whoever's gave it"
    np.testing.assert_allclose(KrylovSVD(1).fit(matrix).singular_values_, [2.0])
