import numpy as np
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tasks.core.numerics.block import Block
from tasks.core.numerics.moments import Moments
from tasks.core.numerics.normalize import normalize

counts_matrices = hnp.arrays(np.uint32, st.tuples(st.integers(1, 6), st.just(5)), elements=st.integers(0, 40))


def block_of(matrix: np.ndarray) -> Block:
    csr = sp.csr_array(matrix)
    return Block(csr.indptr, csr.indices, csr.data)


def by_the_book(counts: np.ndarray) -> np.ndarray:
    totals = counts.sum(axis=1, keepdims=True)
    return np.log1p(counts * 1e6 / np.where(totals == 0, 1, totals))


@given(counts_matrices)
def test_is_log1p_of_counts_per_million(counts: np.ndarray) -> None:
    normalized = normalize(block_of(counts))
    assert normalized.values.dtype == np.float32
    np.testing.assert_allclose(normalized.matrix(5).toarray(), by_the_book(counts), rtol=1e-6)


@given(counts_matrices)
def test_moments_are_those_of_the_dense_matrix(counts: np.ndarray) -> None:
    block = normalize(block_of(counts))
    dense = block.matrix(5).toarray().astype(np.float64)
    halves = [Moments.of(block, 5), Moments.of(block, 5)]
    moments = Moments.from_arrow(bytes((halves[0] + halves[1]).to_arrow()))
    assert moments.cells == 2 * len(counts)
    np.testing.assert_allclose(moments.means, dense.mean(axis=0), atol=1e-9)
    np.testing.assert_allclose(moments.variances, dense.var(axis=0), atol=1e-6)


def test_a_cell_without_counts_stays_zero() -> None:
    normalized = normalize(block_of(np.array([[0, 0, 0, 0, 0], [1, 0, 0, 0, 0]])))
    assert normalized.offsets.tolist() == [0, 0, 1]
