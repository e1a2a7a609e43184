"""The files that a run leaves: `embeddings.csv`, `pca_variance.csv`, the same and more as Parquet, and pictures."""

from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from tasks.core.base.settings import RunSettings, Settings
from tasks.core.numerics.block import decode_matrix, decode_table
from tasks.core.references.model import Labels, Output
from tasks.core.results.as_anndata import write_anndata
from tasks.core.results.delivery import deliver, scratch
from tasks.core.results.embeddings import harmless, write_embeddings
from tasks.core.results.findings import CLUSTER, Fit, LabelledCells
from tasks.core.results.pictures import CellSample, write_scree
from tasks.core.results.tables import cell_tables, component_table, gene_names, gene_table, with_components
from tasks.core.storage.store import Store

VARIANCE_CSV = "pca_variance.csv"
COMPONENTS_CSV, COMPONENTS_PARQUET = "components.csv", "components.parquet"
CLUSTERS_CSV, CLUSTERS_PARQUET = "clusters.csv", "clusters.parquet"
GENES_CSV, MARKERS_CSV = "genes.csv", "markers.csv"


def export(store: Store, output: Store, fit: Fit, settings: Settings) -> tuple[Output, ...]:
    """Write the tables and pictures beside each other, all of them or none.

    The tables are the model that `saved_model` reads.

    Raises:
        StoreError: the output cannot be written.
    """
    model, clustering = fit.model, fit.clustered.clustering
    with scratch(output) as folder:
        cells = sum(part.cells for part in fit.matrix.cells)
        sample = CellSample(cells, len(model.singular_values))
        tables = sample.of(cell_tables(store, fit.labelled))
        write_embeddings(tables, folder, csv_in_parts=cells > settings.csv_rows)
        sample.write_embedding(model, clustering, folder)
        write_scree(model, folder)
        components = component_table(model)
        components.select("pc", "explained_variance_ratio").write_csv(folder / VARIANCE_CSV)
        components.write_csv(folder / COMPONENTS_CSV)
        _write_components(store, fit, folder)
        _write_clusters(store, clustering, folder)
        _write_genes(store, fit, folder)
        write_anndata(store, fit, settings, folder)
        return deliver(folder, output)


def export_cells(store: Store, output: Store, labelled: LabelledCells, settings: RunSettings) -> tuple[Output, ...]:
    """Write the table of cells alone, as Parquet and CSV, or none of it.

    Raises:
        StoreError: the output cannot be written.
    """
    with scratch(output) as folder:
        cells = sum(part.cells for part in labelled.cells)
        write_embeddings(cell_tables(store, labelled), folder, csv_in_parts=cells > settings.csv_rows)
        return deliver(folder, output)


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
