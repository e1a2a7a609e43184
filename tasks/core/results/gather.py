"""What a report is made of, read from the store: a sample of the cells, and small tables."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import polars as pl

from tasks.core.base.settings import Settings
from tasks.core.dataset.plan import ENSEMBL, SYMBOL
from tasks.core.model.label import embedded_blocks, stored_labels
from tasks.core.model.map_cells import PlacedSample
from tasks.core.numerics.block import IntArray, NumberArray, decode_matrix, decode_table
from tasks.core.numerics.fold import Blocks
from tasks.core.numerics.quality import COUNTS_COLUMN, GENES_COLUMN, MITO_COLUMN, histograms
from tasks.core.numerics.sample import draw, pick, take
from tasks.core.references import insight
from tasks.core.results.findings import CLUSTER, Fit
from tasks.core.results.record import RunRecord
from tasks.core.results.report_data import (
    Agreement,
    CrossTable,
    DrawnCells,
    Histogram,
    KChoice,
    Markers,
    Quality,
    ReportData,
)
from tasks.core.storage.store import Store

# More would hide each other.
_MOST_CELLS = 4_000
_BINS = 40


def gather(store: Store, fit: Fit, record: RunRecord, settings: Settings) -> ReportData:
    """Read all that the report of a fit tells."""
    found = fit.insights
    scores = found.scores
    return ReportData(
        record=record,
        cells=_drawn(store, fit, settings),
        compositions=[_cross(store, table) for table in scores.compositions] if scores else [],
        choice=_choice(scores, fit) if scores and fit.clustered.others else None,
        agreements=_agreements(scores) if scores else [],
        batches=[_cross(store, table) for table in scores.batches] if scores else [],
        markers=_markers(store, found.markers) if found.markers else None,
        quality=_quality(store, fit, record, settings.threads) if fit.matrix.checked else None,
    )


def _drawn(store: Store, fit: Fit, settings: Settings) -> DrawnCells:
    blocks = embedded_blocks(store, fit.embedded.embeddings, settings.threads)
    cell_map = fit.insights.cell_map
    placed = None if cell_map is None else PlacedSample.read(store, cell_map, len(blocks.rows))
    rows = placed.rows if placed else draw(blocks.rows, _MOST_CELLS, np.random.default_rng(settings.seed))
    return DrawnCells(
        components_nk=take(blocks, rows),
        clusters_n=_clusters(store, fit, rows, settings.threads),
        metadata=_metadata(store, fit, rows, settings.recipe_in_full.compared),
        total=sum(blocks.rows),
        map_n2=placed.places_n2 if placed else None,
    )


def _clusters(store: Store, fit: Fit, rows: Sequence[IntArray], workers: int) -> IntArray:
    clustering = fit.clustered.clustering
    names: IntArray = np.array(clustering.names)[pick(stored_labels(store, clustering, workers), rows)]
    return names


def _metadata(store: Store, fit: Fit, rows: Sequence[IntArray], names: Sequence[str]) -> pl.DataFrame:
    # Of thousands of partitions most have no cell of the sample.
    tables = [
        pl.DataFrame(decode_table(store.get(part.metadata)).select(list(names)))[of]
        for part, of in zip(fit.matrix.cells, rows, strict=True)
        if len(of)
    ]
    return pl.concat(tables, how="vertical_relaxed")


def _cross(store: Store, table: insight.CrossTable) -> CrossTable:
    return CrossTable(
        row=table.row,
        column=table.column,
        row_names=table.row_values,
        column_names=table.column_values,
        counts_rc=decode_matrix(store.get(table.cells)),
    )


def _choice(scores: insight.Scores, fit: Fit) -> KChoice:
    asked = {name for name in fit.clustered.by_column if name.startswith(CLUSTER)}
    splits = [split for split in scores.splits if split.name in asked]
    scored = ("silhouette", "calinski_harabasz", "davies_bouldin")
    table = pl.DataFrame(
        [split.model_dump(include={"clusters", *scored}) for split in splits],
        schema={"clusters": pl.Int64} | dict.fromkeys(scored, pl.Float64),
    ).rename({"clusters": "k"})
    return KChoice(table, splits[0].clusters)


def _agreements(scores: insight.Scores) -> list[Agreement]:
    mixing = scores.mixing
    return [
        Agreement(
            column=one.column,
            adjusted_rand=one.adjusted_rand_index,
            nmi=one.normalized_mutual_information,
            recall=one.recalls,
            ilisi=mixing.after if mixing and mixing.batch == one.column else None,
        )
        for one in scores.comparisons
        if one.clustering == CLUSTER
    ]


def _markers(store: Store, found: insight.Markers) -> Markers:
    # A symbol that two genes share, or none, would be taken for one.
    unclear = pl.col(SYMBOL).is_null() | pl.col(SYMBOL).is_in(_shared(store, found))
    gene = pl.when(unclear).then(ENSEMBL).otherwise(SYMBOL)
    top, dots = (pl.DataFrame(decode_table(store.get(ref))).with_columns(gene=gene) for ref in (found.top, found.dots))
    clusters, genes = dots["cluster"].unique(maintain_order=True), dots["gene"].unique(maintain_order=True)
    shape = (len(clusters), len(genes))
    return Markers(
        top=top,
        clusters=clusters.to_list(),
        genes=genes.to_list(),
        share_cg=dots["share"].to_numpy().reshape(shape),
        mean_cg=dots["mean"].to_numpy().reshape(shape),
    )


def _shared(store: Store, found: insight.Markers) -> list[str]:
    genes = pl.DataFrame(decode_table(store.get(found.dots))).select(ENSEMBL, SYMBOL).unique()
    return [symbol for symbol, times in Counter(genes[SYMBOL].to_list()).items() if symbol and times > 1]


def _quality(store: Store, fit: Fit, record: RunRecord, workers: int) -> Quality:
    recipe, removed = record.recipe, record.removed
    bounds = {GENES_COLUMN: recipe.min_genes, COUNTS_COLUMN: recipe.min_counts, MITO_COLUMN: recipe.max_mito}
    reasons = {
        f"cells with fewer than {recipe.min_genes:,} genes": removed["min_genes"],
        f"cells with fewer than {recipe.min_counts:,} counts": removed["min_counts"],
        f"cells with more than {recipe.max_mito:g} % mitochondrial counts": removed["max_mito"],
    }
    refs = [part.quality for part in fit.matrix.checked]
    measured: Blocks[NumberArray] = Blocks(
        sources=refs,
        names=[store.locate(ref.path) for ref in refs],
        rows=[ref.rows for ref in refs],
        read=lambda ref: _columns(decode_table(store.get(ref)), bounds),
        workers=workers,
    )
    found = histograms(measured, _BINS)
    return Quality(
        [Histogram(name, *of, [bound]) for (name, bound), of in zip(bounds.items(), found, strict=True)],
        reasons,
    )


def _columns(table: Any, names: Iterable[str]) -> NumberArray:
    return np.column_stack([table.column(name).to_numpy() for name in names])
