"""What a run found, as AnnData names it, read from the store partition by partition."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from tasks.core.base.settings import Settings
from tasks.core.dataset.plan import ENSEMBL
from tasks.core.dataset.stored_blocks import gene_ranks, read_counts
from tasks.core.model.label import embedded_blocks
from tasks.core.model.map_cells import PlacedSample
from tasks.core.numerics.block import Block, NumberArray, decode_matrix, decode_table
from tasks.core.numerics.layout import place_among
from tasks.core.numerics.sample import take
from tasks.core.references.insight import CellMap
from tasks.core.references.model import Embedding
from tasks.core.results.anndata_export import (
    AnnDataParts,
    CountsOfCells,
    Pieces,
    decomposition_notes,
    marker_notes,
    write_h5ad,
)
from tasks.core.results.anndata_table import TableRows
from tasks.core.results.findings import CLUSTER, Fit
from tasks.core.results.tables import cell_tables, component_names, gene_table
from tasks.core.storage.store import Store

# Column of Tahoe's that names the cells.
_BARCODE = "BARCODE_SUB_LIB_ID"
_LOADINGS = {"svd": "SVs", "pca": "PCs"}


def write_anndata(store: Store, fit: Fit, settings: Settings, path: Path) -> None:
    """Write what a run found as AnnData, in HDF5."""
    write_h5ad(path, _parts(store, fit, settings))


def _parts(store: Store, fit: Fit, settings: Settings) -> AnnDataParts:
    genes, method = gene_table(store, fit), settings.recipe_in_full.method
    counts = CountsOfCells(lambda: _counts(store, fit), sum(part.nonzeros for part in fit.matrix.counts))
    return AnnDataParts(
        obs=TableRows(
            lambda: _obs(store, fit),
            sum(part.cells for part in fit.matrix.cells),
            categories=list(fit.clustered.by_column),
            index=_BARCODE if _BARCODE in fit.matrix.plan.columns else None,
        ),
        var=TableRows(lambda: iter([genes]), len(genes), index=ENSEMBL),
        obsm=_obsm(store, fit, settings),
        varm={_LOADINGS[method]: decode_matrix(store.get(fit.model.components))},
        uns=_uns(store, fit, settings),
        counts=counts if settings.export_counts else None,
    )


def _obs(store: Store, fit: Fit) -> Iterator[pl.DataFrame]:
    components = component_names(len(fit.model.singular_values))
    for table in cell_tables(store, fit.labelled):
        yield pl.DataFrame(table.drop_columns(components))


def _counts(store: Store, fit: Fit) -> Iterator[Block]:
    """Give the counts with genes as the vocabulary has them, ascending in each cell."""
    order = fit.matrix.order
    gene_of_column = np.argsort(gene_ranks(store, order))
    for part in fit.matrix.counts:
        for block in read_counts(store, part.blocks):
            rows = Block(block.offsets, gene_of_column[block.genes], block.values).matrix(order.genes)
            rows.sort_indices()
            yield Block(rows.indptr, rows.indices, rows.data)


def _obsm(store: Store, fit: Fit, settings: Settings) -> Mapping[str, Pieces]:
    recipe, found = settings.recipe_in_full, fit.embedded
    name = f"X_{recipe.method}"
    places: dict[str, Pieces] = {name: lambda: _pieces(store, found.components)}
    if found.corrected is not None:
        places[f"{name}_{recipe.correction}"] = lambda: _pieces(store, found.embeddings)
    cell_map = fit.insights.cell_map
    if cell_map is not None:
        places[f"X_{recipe.layout}"] = partial(_placed, store, found.embeddings, cell_map, settings)
    return places


def _pieces(store: Store, embeddings: Sequence[Embedding]) -> Iterator[NumberArray]:
    for part in embeddings:
        yield decode_matrix(store.get(part.table))


def _placed(
    store: Store, embeddings: Sequence[Embedding], cell_map: CellMap, settings: Settings
) -> Iterator[NumberArray]:
    """Give each cell its place on the map: its own, or one among the cells of the map that are nearest to it."""
    known = PlacedSample.read(store, cell_map, len(embeddings))
    sample = take(embedded_blocks(store, embeddings, settings.threads), known.rows)
    for piece in _pieces(store, embeddings):
        yield place_among(piece, sample, known.places_n2)


def _uns(store: Store, fit: Fit, settings: Settings) -> dict[str, Any]:
    recipe, model = settings.recipe_in_full, fit.model
    variances, ratios = np.array(model.variances), np.array(model.explained_variance_ratio)
    notes: dict[str, Any] = {recipe.method: decomposition_notes(variances, ratios, zero_center=recipe.method == "pca")}
    if fit.insights.markers is not None:
        top = pl.DataFrame(decode_table(store.get(fit.insights.markers.top))).with_columns(gene=ENSEMBL)
        notes["rank_genes_groups"] = marker_notes(top, CLUSTER)
    return notes
