"""The results of a run as one AnnData file, `.h5ad`, which scanpy and cellxgene open.

The file is written piece by piece in bounded memory: cells pass by, a block at a time, and none stays.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import polars as pl
from anndata.io import write_elem

from tasks.core.numerics.block import Block, NumberArray
from tasks.core.results.anndata_table import Filling, TableRows, describe, write_table

# Up to here a sparse matrix's row pointers fit 32 bits, as most readers like them.
_MOST_SHORT = 2**31 - 1
Pieces = Callable[[], Iterable[NumberArray]]


@dataclass(frozen=True)
class CountsOfCells:
    """Counts of all cells.

    Attributes:
        blocks: gives them from the first cell on, columns as the genes' table; values become float32.
        nonzeros: of all blocks.
    """

    blocks: Callable[[], Iterable[Block]]
    nonzeros: int


@dataclass(frozen=True)
class AnnDataParts:
    """What an AnnData file is made of.

    Attributes:
        obs: the cells' metadata and clusters.
        var: the genes: ids, symbols, whether they are highly variable.
        obsm: by name (`X_pca`, `X_svd`, `X_pca_harmony`, `X_umap`) coordinates of all cells: each call gives them
            from the first cell on in (n, d) pieces. cellxgene does not show what has NaN: a map has a place for each.
        varm: by name (`PCs`, `SVs`) loadings of all genes, (g, d).
        uns: by name what else is known, as scanpy has it: see `decomposition_notes` and `marker_notes`.
        counts: `X`; without them it is all zeros and takes no room, for cellxgene opens no file without `X`.
    """

    obs: TableRows
    var: TableRows
    obsm: Mapping[str, Pieces]
    varm: Mapping[str, NumberArray]
    uns: Mapping[str, Any] = field(default_factory=dict)
    counts: CountsOfCells | None = None


def write_h5ad(path: Path, parts: AnnDataParts) -> None:
    """Write an HDF5 file: `anndata.read_h5ad(path)`, also backed. The same parts give the same bytes.

    Raises:
        DataError: the parts are not of the same cells or genes.
    """
    with h5py.File(path, "w") as root:
        describe(root, "anndata", "0.1.0")
        cells, genes = parts.obs.length, parts.var.length
        _write_counts(root, parts.counts, (cells, genes))
        write_table(root, "obs", parts.obs)
        write_table(root, "var", parts.var)
        for name in ("obsm", "varm", "layers", "obsp", "varp"):
            write_elem(root, name, {})
        for name, pieces in parts.obsm.items():
            _write_dense(root["obsm"], name, pieces(), cells)
        for name, loadings in parts.varm.items():
            _write_dense(root["varm"], name, [loadings], genes)
        write_elem(root, "uns", dict(parts.uns))


def _write_dense(group: Any, name: str, pieces: Iterable[NumberArray], rows: int) -> None:
    passing = iter(pieces)
    first = next(passing)
    filling = Filling(group, name, (rows, first.shape[1]), first.dtype)
    for piece in chain([first], passing):
        filling.put(piece)
    filling.check()


def _write_counts(root: Any, counts: CountsOfCells | None, shape: tuple[int, int]) -> None:
    nonzeros = counts.nonzeros if counts else 0
    group = root.create_group("X")
    describe(group, "csr_matrix", "0.1.0", shape=list(shape))
    pointers = np.int32 if nonzeros <= _MOST_SHORT else np.int64
    indptr = Filling(group, "indptr", (shape[0] + 1,), pointers, is_described=False)
    data = Filling(group, "data", (nonzeros,), np.float32, is_described=False)
    indices = Filling(group, "indices", (nonzeros,), np.int32, is_described=False)
    # What is not written is zero, and takes no room.
    if counts is not None:
        _fill_counts(counts, indptr, data, indices)


def _fill_counts(counts: CountsOfCells, indptr: Filling, data: Filling, indices: Filling) -> None:
    before = 0
    indptr.put(np.zeros(1, np.int32))
    for block in counts.blocks():
        indptr.put(before + block.offsets[1:].astype(np.int64))
        data.put(block.values.astype(np.float32))
        indices.put(block.genes.astype(np.int32))
        before += int(block.offsets[-1])
    for part in (indptr, data, indices):
        part.check()


def decomposition_notes(variance_k: NumberArray, ratio_k: NumberArray, **settings: Any) -> dict[str, Any]:
    """Give what scanpy keeps in `uns["pca"]`: the variance of each component, its share, and settings of the fit."""
    return {"params": settings, "variance": variance_k, "variance_ratio": ratio_k}


def marker_notes(top: pl.DataFrame, groupby: str) -> dict[str, Any]:
    """Give what scanpy keeps in `uns["rank_genes_groups"]`.

    scanpy's tables have the same number of genes for each group: as many as the group with fewest.

    Args:
        top: one row a cluster and gene, the best of each cluster first: `cluster`, `gene` (its name in the table of
            genes), `scores`, `logfoldchanges`, `pvals`, `pvals_adj`.
        groupby: column of the clusters.
    """
    groups = {str(name): rows for (name,), rows in top.group_by("cluster", maintain_order=True)}
    number = min((len(rows) for rows in groups.values()), default=0)
    params = {
        "groupby": groupby,
        "reference": "rest",
        "method": "t-test",
        "use_raw": False,
        "corr_method": "benjamini-hochberg",
    }
    kinds = {"scores": "f4", "logfoldchanges": "f4", "pvals": "f8", "pvals_adj": "f8"}
    notes: dict[str, Any] = {"params": params, "names": _by_group(groups, "gene", number, "O")}
    return notes | {column: _by_group(groups, column, number, kind) for column, kind in kinds.items()}


def _by_group(groups: Mapping[str, pl.DataFrame], column: str, number: int, kind: str) -> Any:
    ranked = np.recarray((number,), dtype=[(name, kind) for name in groups])
    for name, rows in groups.items():
        ranked[name] = rows[column].head(number).to_numpy()
    return ranked
