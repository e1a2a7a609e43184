"""The files that a run leaves: `embeddings.csv`, `pca_variance.csv`, the same and more as Parquet, and pictures."""

import hashlib
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from tasks.core.block import decode_matrix, decode_table
from tasks.core.errors import StoreError, first_line
from tasks.core.pictures import CellSample, write_scree
from tasks.core.plan import ENSEMBL, SYMBOL
from tasks.core.references import Cells, Clustering, Embedding, Model, Output, Vocabulary
from tasks.core.store import Store

EMBEDDINGS_CSV, EMBEDDINGS_PARQUET = "embeddings.csv", "embeddings.parquet"
VARIANCE_CSV = "pca_variance.csv"
COMPONENTS_CSV, COMPONENTS_PARQUET = "components.csv", "components.parquet"
_FORMULA = r"^[=+\-@\t\r]"


@dataclass(frozen=True)
class Results:
    """What the tables are made of; partitions in stream order."""

    vocabulary: Vocabulary
    cells: Sequence[Cells]
    embeddings: Sequence[Embedding]
    model: Model
    clustering: Clustering


def export(store: Store, output: Store, results: Results) -> tuple[Output, ...]:
    """Write the tables and pictures beside each other, all of them or none.

    Raises:
        StoreError: the output cannot be written.
    """
    with _scratch(output) as folder:
        sample = CellSample(sum(part.cells for part in results.cells), len(results.model.singular_values))
        _write_embeddings(sample.of(cell_tables(store, results)), folder)
        sample.write_embedding(results.model, results.clustering, folder)
        write_scree(results.model, folder)
        components = component_table(results.model)
        components.select("pc", "explained_variance_ratio").write_csv(folder / VARIANCE_CSV)
        components.write_csv(folder / COMPONENTS_CSV)
        _write_components(store, results, folder)
        outputs = tuple(_describe(path) for path in sorted(folder.iterdir()))
        for made in outputs:
            output.files.move_in(folder / made.name, made.name)
        return outputs


def component_names(model: Model) -> list[str]:
    """`pc1`, `pc2`, ..."""
    return [f"pc{number}" for number in range(1, len(model.singular_values) + 1)]


def component_table(model: Model) -> pl.DataFrame:
    """Each component's singular value, how right it is, and the share of the variance of all genes it explains."""
    names = component_names(model)
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


def cell_tables(store: Store, results: Results) -> Iterator[pa.Table]:
    """One table a partition: the cells' metadata, their embedding (float32) and their cluster."""
    for cells, embedding, labels in zip(results.cells, results.embeddings, results.clustering.labels, strict=True):
        table = decode_table(store.get(cells.metadata))
        z_nk = decode_matrix(store.get(embedding.table))
        for name, column in zip(component_names(results.model), z_nk.T, strict=True):
            table = table.append_column(name, pa.array(np.ascontiguousarray(column)))
        labels_n = decode_matrix(store.get(labels))[:, 0].astype(np.int32)
        yield table.append_column("cluster", pa.array(labels_n))


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


def _write_components(store: Store, results: Results, folder: Path) -> None:
    genes = decode_table(store.get(results.vocabulary.table)).select([ENSEMBL, SYMBOL])
    v_gk = decode_matrix(store.get(results.model.components))
    for name, column in zip(component_names(results.model), v_gk.T, strict=True):
        genes = genes.append_column(name, pa.array(np.ascontiguousarray(column)))
    pq.write_table(genes, folder / COMPONENTS_PARQUET)


def _describe(path: Path) -> Output:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Output(name=path.name, size=path.stat().st_size, sha256=digest)


@contextmanager
def _scratch(output: Store) -> Iterator[Path]:
    # Beside the results where they are local, so that moving a file there is one rename.
    beside = output.files.root if output.files.is_local else None
    if beside is not None:
        Path(beside).mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=".results-", dir=beside))
    try:
        yield folder
    except OSError as error:
        if isinstance(error, StoreError):
            raise
        raise StoreError(f"cannot write to {output.url}: {error.strerror or first_line(error)}") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
