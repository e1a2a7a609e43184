"""The genes that tell each cluster from all other cells."""

import re
from collections.abc import Sequence

import numpy as np
import polars as pl

from tasks.core.base.settings import Settings
from tasks.core.dataset.plan import ENSEMBL, SYMBOL
from tasks.core.dataset.stored_blocks import by_block, gene_ranks, stored_values
from tasks.core.model.label import stored_labels
from tasks.core.numerics import markers
from tasks.core.numerics.block import IntArray, decode_table, encode_table
from tasks.core.numerics.markers import rank_genes, sum_genes
from tasks.core.references.cells import GeneOrder, Normalized, Vocabulary
from tasks.core.references.insight import Markers
from tasks.core.references.model import Assigned
from tasks.core.storage.store import Outcome, StageKey, Store

VERSION = 7
# Genes whose means and shares are given in all clusters; more could not be looked at.
MOST_DOTS = 60
_HOUSEKEEPING = re.compile(r"MT-|RP[LS](?!6K)(\d|P\d|A)", re.IGNORECASE)
_STATISTICS = ("cohens_d", "scores", "logfoldchanges", "pvals", "pvals_adj", "pct_nz_group", "pct_nz_reference")


def find_markers(
    store: Store,
    partitions: Sequence[Normalized],
    order: GeneOrder,
    vocabulary: Vocabulary,
    clusters: Assigned,
    settings: Settings,
) -> Outcome[Markers]:
    """Rank the genes of each cluster by their effect, and give the best with the names of clusters and genes."""
    most = settings.recipe_in_full.markers
    inputs = {"cells": [part.key for part in partitions], "clusters": clusters.key, "markers": most}
    key = StageKey(stage="markers", version=VERSION, inputs=inputs)

    def make() -> Markers:
        blocks = stored_values(store, partitions, settings.threads)
        labels = by_block(partitions, stored_labels(store, clusters, settings.threads))
        gene_of_column = np.argsort(gene_ranks(store, order))
        names = pl.DataFrame(decode_table(store.get(vocabulary.table)).select([ENSEMBL, SYMBOL]))[gene_of_column]
        found = rank_genes(blocks, labels, len(clusters.names), order.genes, min(most, order.genes))
        top = pl.concat(
            [_named(of, names, name) for of, name in zip(found, clusters.names, strict=True) if of] or [_NONE]
        )
        shown = _shown(found, names[SYMBOL].to_list())
        columns = np.full(order.genes, -1, np.int32)
        columns[shown] = np.arange(len(shown))
        dots = _dots(sum_genes(blocks, labels, len(clusters.names), columns), names[shown], clusters.names)
        return Markers(
            key=key.digest,
            top=store.put(f"{key.folder}/top.arrow", encode_table(top.to_arrow(compat_level=_PLAIN)), len(top)),
            dots=store.put(f"{key.folder}/dots.arrow", encode_table(dots.to_arrow(compat_level=_PLAIN)), len(dots)),
        )

    return store.answer(key, Markers, make)


_PLAIN = pl.CompatLevel.oldest()
_NAMES = {"cluster": pl.Int32, "rank": pl.Int32, ENSEMBL: pl.String, SYMBOL: pl.String}
_NONE = pl.DataFrame(schema=_NAMES | dict.fromkeys(_STATISTICS, pl.Float64))


def _named(of: markers.Markers, names: pl.DataFrame, cluster: int) -> pl.DataFrame:
    """Give a row a gene, the best first."""
    placed = pl.DataFrame({"cluster": cluster, "rank": np.arange(1, len(of.genes) + 1)})
    columns = placed.hstack(names[of.genes]).with_columns(**{name: getattr(of, name) for name in _STATISTICS})
    return columns.cast(_NONE.schema)


def is_housekeeping(symbol: str | None) -> bool:
    """Tell genes of ribosomal proteins and of the mitochondrial genome; RPS6KA1, a kinase, is none."""
    return bool(_HOUSEKEEPING.match(symbol or ""))


def _shown(found: Sequence[markers.Markers | None], symbols: Sequence[str | None]) -> IntArray:
    """Choose the best genes of each cluster, so many in all as can be looked at; of very many clusters the first.

    Genes of ribosomes and mitochondria, which tell how a cell fares rather than what it is, are chosen only where a
    cluster has no others.
    """
    of_each = max(MOST_DOTS // max(len(found), 1), 1)
    genes: dict[int, None] = {}
    for ranked in (of.genes.tolist() for of in found if of):
        others = [gene for gene in ranked if not is_housekeeping(symbols[gene])]
        genes |= dict.fromkeys((others or ranked)[:of_each])
    return np.array(list(genes)[:MOST_DOTS], np.int64)


def _dots(sums: markers.GeneSums, names: pl.DataFrame, clusters: Sequence[int]) -> pl.DataFrame:
    """Mean, and share of the cells expressing, of some genes in every cluster."""
    cells_c = np.maximum(sums.cells_c, 1)[:, None]
    return pl.DataFrame(
        {
            "cluster": np.repeat(np.array(clusters, np.int32), len(names)),
            "mean": (sums.sums_cg / cells_c).ravel(),
            "share": (sums.expressing_cg / cells_c).ravel(),
        }
    ).hstack(pl.concat([names] * len(clusters)))
