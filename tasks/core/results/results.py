"""The files that a run leaves: `embeddings.csv`, `pca_variance.csv`, the same and more as Parquet, and pictures."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from tasks.core.dataset.plan import ENSEMBL, SYMBOL
from tasks.core.numerics.block import NumberArray, decode_matrix, decode_table
from tasks.core.references.cells import Cells
from tasks.core.references.model import Assigned, Embedding, Labels, Model, Output
from tasks.core.results.delivery import deliver, scratch
from tasks.core.results.findings import CLUSTER, Fit
from tasks.core.results.pictures import CellSample, write_scree
from tasks.core.storage.store import Store

EMBEDDINGS_CSV, EMBEDDINGS_PARQUET = "embeddings.csv", "embeddings.parquet"
VARIANCE_CSV = "pca_variance.csv"
COMPONENTS_CSV, COMPONENTS_PARQUET = "components.csv", "components.parquet"
CLUSTERS_CSV, CLUSTERS_PARQUET = "clusters.csv", "clusters.parquet"
GENES_CSV, MARKERS_CSV = "genes.csv", "markers.csv"
_FORMULA = r"^[=+\-@\t\r]"


@dataclass(frozen=True)
class LabelledCells:
    """What the table of cells is made of; partitions in stream order.

    Attributes:
        clusterings: by the name of their column, the one that names the clusters first.
    """

    cells: Sequence[Cells]
    embeddings: Sequence[Embedding]
    clusterings: Mapping[str, Assigned]


def export(store: Store, output: Store, fit: Fit) -> tuple[Output, ...]:
    """Write the tables and pictures beside each other, all of them or none.

    The tables are the model that `saved_model` reads.

    Raises:
        StoreError: the output cannot be written.
    """
    model, clustering = fit.model, fit.clustered.clustering
    labelled = LabelledCells(fit.matrix.cells, fit.embedded.embeddings, fit.clustered.by_column)
    with scratch(output) as folder:
        sample = CellSample(sum(part.cells for part in labelled.cells), len(model.singular_values))
        _write_embeddings(sample.of(cell_tables(store, labelled)), folder)
        sample.write_embedding(model, clustering, folder)
        write_scree(model, folder)
        components = component_table(model)
        components.select("pc", "explained_variance_ratio").write_csv(folder / VARIANCE_CSV)
        components.write_csv(folder / COMPONENTS_CSV)
        _write_components(store, fit, folder)
        _write_clusters(store, clustering, folder)
        _write_genes(store, fit, folder)
        return deliver(folder, output)


def export_cells(store: Store, output: Store, labelled: LabelledCells) -> tuple[Output, ...]:
    """Write the tables of cells alone, both of them or none.

    Raises:
        StoreError: the output cannot be written.
    """
    with scratch(output) as folder:
        _write_embeddings(cell_tables(store, labelled), folder)
        return deliver(folder, output)


def component_names(number: int) -> list[str]:
    """`pc1`, `pc2`, ..."""
    return [f"pc{at}" for at in range(1, number + 1)]


def component_table(model: Model) -> pl.DataFrame:
    """Each component's singular value, how right it is, and the share of the variance of all genes it explains."""
    names = component_names(len(model.singular_values))
    return pl.DataFrame(
        {
            "pc": names,
            "singular_value": model.singular_values,
            "residual": model.residuals,
            "settled": model.settled,
            "within_rank": [at < model.rank for at in range(len(names))],
            "explained_variance_ratio": model.explained_variance_ratio,
        }
    )


def cell_tables(store: Store, labelled: LabelledCells) -> Iterator[pa.Table]:
    """One table a partition: the cells' metadata, their embedding (float32) and the names of their clusters."""
    for at, (cells, embedding) in enumerate(zip(labelled.cells, labelled.embeddings, strict=True)):
        table = decode_table(store.get(cells.metadata))
        table = _with_components(table, decode_matrix(store.get(embedding.table)))
        for column, assigned in labelled.clusterings.items():
            names = np.asarray(assigned.names, np.int32)
            labels_n = decode_matrix(store.get(assigned.labels[at]))[:, 0]
            table = table.append_column(column, pa.array(names[labels_n]))
        yield table


def _write_embeddings(tables: Iterable[pa.Table], folder: Path) -> None:
    writer = None
    with (folder / EMBEDDINGS_CSV).open("wb") as csv:
        for table in tables:
            if writer is None:
                writer = pq.ParquetWriter(folder / EMBEDDINGS_PARQUET, table.schema)
                _harmless(pl.DataFrame(table.schema.empty_table())).write_csv(csv)
            writer.write_table(table)
            _harmless(pl.DataFrame(table)).write_csv(csv, include_header=False)
    if writer is not None:
        writer.close()


def _harmless(table: pl.DataFrame) -> pl.DataFrame:
    """Put an apostrophe before texts that a spreadsheet would run as a formula; numbers stay as they are."""
    texts = pl.col(pl.String)
    is_formula = texts.str.contains(_FORMULA) & texts.cast(pl.Float64, strict=False).is_null()
    names = {name: f"'{name}" for name in table.columns if re.match(_FORMULA, name)}
    return table.with_columns(pl.when(is_formula).then("'" + texts).otherwise(texts).name.keep()).rename(names)


def _write_components(store: Store, fit: Fit, folder: Path) -> None:
    v_gk = decode_matrix(store.get(fit.model.components))
    pq.write_table(_with_components(_gene_names(store, fit), v_gk), folder / COMPONENTS_PARQUET)


def _write_genes(store: Store, fit: Fit, folder: Path) -> None:
    """Write which genes were chosen, and which tell clusters apart, where that was asked for."""
    if fit.prepared.chosen is not None:
        statistics = pl.DataFrame(decode_table(store.get(fit.prepared.chosen.table)))
        _harmless(pl.DataFrame(_gene_names(store, fit)).hstack(statistics)).write_csv(folder / GENES_CSV)
    if fit.insights.markers is not None:
        _harmless(pl.DataFrame(decode_table(store.get(fit.insights.markers.top)))).write_csv(folder / MARKERS_CSV)


def _gene_names(store: Store, fit: Fit) -> pa.Table:
    return decode_table(store.get(fit.matrix.plan.vocabulary.table)).select([ENSEMBL, SYMBOL])


def _write_clusters(store: Store, clusters: Labels, folder: Path) -> None:
    table = pa.table({CLUSTER: np.asarray(clusters.names, np.int32), "cells": np.asarray(clusters.sizes)})
    table = _with_components(table, decode_matrix(store.get(clusters.centres)))
    pq.write_table(table, folder / CLUSTERS_PARQUET)
    pl.DataFrame(table).write_csv(folder / CLUSTERS_CSV)


def _with_components(table: pa.Table, matrix: NumberArray) -> pa.Table:
    for name, column in zip(component_names(matrix.shape[1]), matrix.T, strict=True):
        table = table.append_column(name, pa.array(np.ascontiguousarray(column)))
    return table
