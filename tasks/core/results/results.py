"""The files that a run leaves: `embeddings.csv`, `pca_variance.csv`, and the same and more as Parquet."""

from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from tasks.core.base.settings import ALL, RunSettings, Settings
from tasks.core.numerics.block import decode_matrix, decode_table
from tasks.core.references.model import Labels
from tasks.core.results.delivery import CSV_PARTS, EMBEDDINGS_CSV, PARQUET_PARTS
from tasks.core.results.embeddings import harmless
from tasks.core.results.findings import CLUSTER, Fit
from tasks.core.results.history import HISTORY, HISTORY_PICTURE
from tasks.core.results.report_data import EMBEDDING, REPORT, SCREE
from tasks.core.results.tables import component_table, gene_names, gene_table, with_components
from tasks.core.storage.store import Store

VARIANCE_CSV = "pca_variance.csv"
COMPONENTS_CSV, COMPONENTS_PARQUET = "components.csv", "components.parquet"
CLUSTERS_CSV, CLUSTERS_PARQUET = "clusters.csv", "clusters.parquet"
H5AD = "results.h5ad"
GENES_CSV, MARKERS_CSV = "genes.csv", "markers.csv"
_OF_A_FIT = (
    *(VARIANCE_CSV, COMPONENTS_CSV, COMPONENTS_PARQUET, CLUSTERS_CSV, CLUSTERS_PARQUET),
    *(SCREE, EMBEDDING, REPORT),
)


def may_write(settings: RunSettings) -> list[str]:
    """Name the files that a run may leave beside its record; those in parts by `folder/`."""
    whole = [EMBEDDINGS_CSV] if settings.csv_rows else []
    in_parts = [f"{CSV_PARTS}/"] if settings.samples == ALL or settings.samples > settings.csv_rows else []
    of_cells = [f"{PARQUET_PARTS}/", *whole, *in_parts]
    if not isinstance(settings, Settings):
        return of_cells
    recipe = settings.recipe_in_full
    asked = {
        GENES_CSV: recipe.prepares_genes,
        MARKERS_CSV: recipe.markers,
        H5AD: settings.export == "h5ad",
        HISTORY: settings.series,
        HISTORY_PICTURE: settings.series,
    }
    return [*of_cells, *_OF_A_FIT, *(name for name, is_asked in asked.items() if is_asked)]


def export(store: Store, folder: Path, fit: Fit, settings: Settings) -> None:
    """Write all but the table of cells; the small tables are the model that `saved_model` reads."""
    model, clustering = fit.model, fit.clustered.clustering
    components = component_table(model)
    components.select("pc", "explained_variance_ratio").write_csv(folder / VARIANCE_CSV)
    components.write_csv(folder / COMPONENTS_CSV)
    _write_components(store, fit, folder)
    _write_clusters(store, clustering, folder)
    _write_genes(store, fit, folder)
    if settings.export == "h5ad":
        # It takes seconds to import, and what of it the plain method does not need may not be installed.
        from tasks.core.results.as_anndata import write_anndata  # noqa: PLC0415

        write_anndata(store, fit, settings, folder / H5AD)


def _write_components(store: Store, fit: Fit, folder: Path) -> None:
    v_gk = decode_matrix(store.get(fit.model.components))
    pq.write_table(with_components(gene_names(store, fit), v_gk), folder / COMPONENTS_PARQUET)


def _write_genes(store: Store, fit: Fit, folder: Path) -> None:
    """Write which genes were chosen, and which tell clusters apart, where that was asked for."""
    if fit.prepared.chosen is not None:
        harmless(gene_table(store, fit)).write_csv(folder / GENES_CSV)
    if fit.insights.markers is not None:
        harmless(pl.DataFrame(decode_table(store.get(fit.insights.markers.top)))).write_csv(folder / MARKERS_CSV)


def _write_clusters(store: Store, clusters: Labels, folder: Path) -> None:
    table = pa.table({CLUSTER: np.asarray(clusters.names, np.int32), "cells": np.asarray(clusters.sizes)})
    table = with_components(table, decode_matrix(store.get(clusters.centres)))
    pq.write_table(table, folder / CLUSTERS_PARQUET)
    pl.DataFrame(table).write_csv(folder / CLUSTERS_CSV)
