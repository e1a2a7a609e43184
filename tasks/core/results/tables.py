"""The tables of the results, from what the stages left in the store."""

from collections.abc import Iterator

import numpy as np
import polars as pl
import pyarrow as pa

from tasks.core.dataset.plan import ENSEMBL, SYMBOL
from tasks.core.numerics.block import NumberArray, decode_matrix, decode_table
from tasks.core.references.model import Model
from tasks.core.results.findings import Fit, LabelledCells
from tasks.core.storage.store import Store


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
        table = with_components(table, decode_matrix(store.get(embedding.table)))
        for column, assigned in labelled.clusterings.items():
            names = np.asarray(assigned.names, np.int32)
            labels_n = decode_matrix(store.get(assigned.labels[at]))[:, 0]
            table = table.append_column(column, pa.array(names[labels_n]))
        yield table


def gene_names(store: Store, fit: Fit) -> pa.Table:
    """Give the id and the symbol of each gene of the vocabulary."""
    return decode_table(store.get(fit.matrix.plan.vocabulary.table)).select([ENSEMBL, SYMBOL])


def gene_table(store: Store, fit: Fit) -> pl.DataFrame:
    """Give a row a gene: id, symbol and, where genes were chosen, whether it is and by what."""
    names = pl.DataFrame(gene_names(store, fit))
    chosen = fit.prepared.chosen
    return names if chosen is None else names.hstack(pl.DataFrame(decode_table(store.get(chosen.table))))


def with_components(table: pa.Table, matrix: NumberArray) -> pa.Table:
    """Add the columns of a matrix, (rows, k), as `pc1` and so on."""
    for name, column in zip(component_names(matrix.shape[1]), matrix.T, strict=True):
        table = table.append_column(name, pa.array(np.ascontiguousarray(column)))
    return table
