"""Real cells of five lines, measured in five experiments, as scanpy takes them."""

import warnings
from functools import cache
from typing import Any

import anndata as ad
import numpy as np
import polars as pl
import scanpy as sc
import scipy.sparse as sp

from tests.conftest import real_cells

_FIRST_GENE = 3


@cache
def normalized(name: str = "mixology") -> Any:
    """AnnData of log1p counts per million, of the genes that three cells have."""
    with warnings.catch_warnings(action="ignore"):  # of libraries, about each other
        return _normalize(_counts(name))


@cache
def variable(name: str = "mixology") -> Any:
    """Of those, 2,000 genes that vary most, chosen per plate, with their PCA of 20 components."""
    adata = normalized(name).copy()
    with warnings.catch_warnings(action="ignore"):
        sc.pp.highly_variable_genes(adata, n_top_genes=2_000, batch_key="plate", subset=True)
        sc.pp.pca(adata, n_comps=20)
    return adata


def _counts(name: str) -> Any:
    cells = pl.read_parquet(real_cells(name) / "data/*.parquet")
    lengths = cells["genes"].list.len().to_numpy()
    tokens, values = (cells[column].explode().to_numpy() for column in ("genes", "expressions"))
    rows = np.repeat(np.arange(len(cells)), lengths)
    genes = tokens >= _FIRST_GENE
    counts = sp.csr_matrix((values[genes], (rows[genes], tokens[genes] - _FIRST_GENE)), dtype=np.float32)
    metadata = {column: cells[column].to_numpy() for column in ("cell_line_id", "plate")}
    adata = ad.AnnData(counts, obs=metadata)
    adata.obs.index = adata.obs.index.astype(str)
    adata.obs = adata.obs.astype("category")
    return adata


def _normalize(adata: Any) -> Any:
    sc.pp.filter_genes(adata, min_cells=3)
    sc.pp.normalize_total(adata, target_sum=1e6)
    sc.pp.log1p(adata)
    return adata
