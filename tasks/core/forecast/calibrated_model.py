"""How fast this machine decomposes, embeds, clusters and exports."""

import io
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
from sklearn.cluster import KMeans

from tasks.core.base.settings import Settings
from tasks.core.dataset.partition_steps import embed
from tasks.core.dataset.stored_blocks import stored_blocks
from tasks.core.forecast.timing import Sample, Timer, anew
from tasks.core.model.label import embedded_blocks
from tasks.core.numerics.block import Float32Array, Float64Array, decode_matrix, decode_table, encode_matrix
from tasks.core.numerics.block_kmeans import BlockKMeans
from tasks.core.numerics.fold import Blocks
from tasks.core.numerics.gram import BlocksGram
from tasks.core.numerics.krylov import BlockKrylov
from tasks.core.numerics.lloyd import sum_up
from tasks.core.numerics.moments import Moments
from tasks.core.references.model import Components, Embedding
from tasks.core.results.drafts import describe
from tasks.core.results.embeddings import harmless, write_csv, write_part
from tasks.core.results.tables import with_components

# Passes whose orthogonalization is timed: of a usual fit.
_STEPS = 6
# Blocks whose sum is timed.
_SUMS = 10


def time_svd(sample: Sample, timer: Timer) -> None:
    """Time what a pass is made of: blocks read, products, their sum, and a step of the basis."""
    moments = Moments.from_arrow(sample.store.get(sample.normalized.moments))
    genes, nonzeros = moments.extent, sample.normalized.nonzeros
    stored = stored_blocks(sample.store, [sample.normalized], 1)
    read = timer.run("reading", nonzeros, lambda: [stored.read(ref).matrix(genes) for ref in stored.sources])
    blocks: Blocks[object] = Blocks(read, stored.names, stored.rows, lambda block: block, 1)
    gram = BlocksGram(blocks, moments)
    settings = sample.settings
    rng = np.random.default_rng(0)
    krylov = BlockKrylov(len(gram.expressed), settings.pca_dim, rng, settings.svd_max_passes)
    panel = krylov.following.astype(np.float32, order="C")
    product = timer.run("product", nonzeros * krylov.width, lambda: gram(panel))
    timer.run("sum", _SUMS * genes * krylov.width, lambda: _add_up(panel, genes))
    timer.run("step", _STEPS * len(product) * krylov.width, lambda: _steps(settings, product))


def time_embedding(sample: Sample, timer: Timer) -> Embedding:
    """Time the projection of the cells, and K-means of them."""
    dim, genes = sample.settings.pca_dim, sample.order.genes
    v_gk = (np.random.default_rng(0).standard_normal((genes, dim)) / np.sqrt(genes)).astype(np.float32)
    components = Components(
        key="calibration", components=sample.store.keep("components", "components.arrow", encode_matrix(v_gk), genes)
    )
    make = anew(
        sample.store, "embedding", lambda: embed(sample.store, sample.normalized, sample.order, components).result
    )
    embedding = timer.run("embedding", sample.normalized.nonzeros * dim, make)
    blocks = embedded_blocks(sample.store, [embedding], 1)
    z_nk = blocks.read(blocks.sources[0])
    clusters = sample.settings.cluster_numbers[0]
    timer.run("clustering", len(z_nk) * dim, lambda: sum_up(blocks, z_nk[:clusters].astype(np.float64)))
    # The start is from so many cells, of which there are fewer here.
    share = len(z_nk) / BlockKMeans().sample_size
    timer.once("start", share, lambda: KMeans(clusters, n_init=10, random_state=0).fit(z_nk.astype(np.float64)))
    return embedding


def time_export(sample: Sample, embedding: Embedding, folder: Path, timer: Timer) -> dict[str, float]:
    """Time the table of cells; give the bytes of what it is made of, by the name of their rate."""
    metadata = decode_table(sample.store.get(sample.cells.metadata))
    z_nk = decode_matrix(sample.store.get(embedding.table))

    def table() -> pa.Table:
        return with_components(metadata, z_nk).append_column("cluster", pa.array(np.zeros(len(z_nk), np.int32)))

    def export() -> None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        write_part([table()], folder, 0, has_csv=False)
        write_csv([table()], folder)
        describe(folder)

    rows = len(z_nk)
    timer.run("table", rows, export)
    timer.run("csv", rows, lambda: harmless(pl.DataFrame(table())).write_csv(io.BytesIO()))
    # The first made both.
    timer.seconds["table"] = max(timer.seconds["table"] - timer.seconds["csv"], 0.0)
    csv, of_metadata = _csv_bytes(table()), _csv_bytes(metadata)
    parquet = sum(path.stat().st_size for path in folder.rglob("*.parquet"))
    return {
        "parquet_metadata": parquet / rows - 4.0 * z_nk.shape[1],
        "csv_metadata": of_metadata / rows,
        "csv_number": (csv - of_metadata) / rows / z_nk.shape[1],
    }


def _add_up(panel: Float32Array, genes: int) -> None:
    total, whole = np.zeros((genes, panel.shape[1])), np.zeros((genes, panel.shape[1]), np.float32)
    for _ in range(_SUMS):
        total += whole


def _steps(settings: Settings, product: Float64Array) -> None:
    krylov = BlockKrylov(len(product), settings.pca_dim, np.random.default_rng(0), settings.svd_max_passes)

    def other_product(_: Float32Array) -> Float64Array:
        # So that the basis goes on growing.
        return np.roll(product, krylov.passes, axis=0)

    for _ in range(_STEPS):
        krylov.advance(other_product)
        krylov.ritz()


def _csv_bytes(table: pa.Table) -> int:
    csv = io.BytesIO()
    pl.DataFrame(table).write_csv(csv, include_header=False)
    return csv.tell()
