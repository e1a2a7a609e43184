"""The exact answer, by other means than ours: plain matrices in memory and LAPACK or ARPACK."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import scipy.sparse as sp
from scipy.sparse.linalg import LinearOperator, eigsh


@dataclass(frozen=True)
class Exact:
    """Leading singular triplets of the normalized matrix, and what sklearn's definition makes of them."""

    values: np.ndarray
    embedding: np.ndarray
    ratios: np.ndarray


def read_counts(dataset: Path, cells: int) -> Any:
    """The (cells, genes) matrix of counts, float64, by the plainest code there is."""
    shards = [pq.read_table(path) for path in sorted((dataset / "data").iterdir())]
    table = pa.concat_tables(shards).slice(0, cells).combine_chunks()
    tokens, values = (table[name].chunk(0).flatten().to_numpy() for name in ("genes", "expressions"))
    lengths = np.diff(table["genes"].chunk(0).offsets.to_numpy())
    rows = np.repeat(np.arange(table.num_rows), lengths)
    real = values != -2.0
    genes = pq.read_metadata(dataset / "metadata" / "gene_metadata.parquet").num_rows
    shape = (table.num_rows, genes)
    return sp.csr_array((values[real].astype(np.float64), (rows[real], tokens[real] - 3)), shape=shape)


def read_normalized(dataset: Path, cells: int) -> Any:
    """The normalized (cells, genes) matrix, float64, by the plainest code there is."""
    counts = read_counts(dataset, cells)
    totals = counts.sum(axis=1)
    return sp.csr_array(sp.diags_array(1e6 / np.maximum(totals, 1)) @ counts).log1p()


def decompose(x_ng: Any, components: int) -> Exact:
    """Exact triplets by ARPACK to machine precision on the Gram matrix of the smaller side."""
    gram = LinearOperator((x_ng.shape[0],) * 2, matvec=lambda u: x_ng @ (x_ng.T @ u), dtype=np.float64)
    start = np.random.default_rng(0).random(x_ng.shape[0])
    squares, u_nk = eigsh(gram, components, v0=start, tol=1e-12)
    values = np.sqrt(squares[::-1])
    embedding = u_nk[:, ::-1] * values
    total = (x_ng.power(2).mean(axis=0) - x_ng.mean(axis=0) ** 2).sum()
    return Exact(values, embedding, embedding.var(axis=0) / total)


def well_separated(values: np.ndarray) -> np.ndarray:
    """Which singular values differ from both neighbours by more than 1 %; the last's lower one is not known."""
    gaps = -np.diff(values) / values[:-1]
    return np.append(np.minimum(gaps, np.append(np.inf, gaps[:-1])), 0.0) > 0.01


def correlations(ours: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """Absolute correlation of each component, over the cells."""
    products = (ours - ours.mean(axis=0)) * (exact - exact.mean(axis=0))
    close: np.ndarray = np.abs(products.mean(axis=0)) / (ours.std(axis=0) * exact.std(axis=0))
    return close
