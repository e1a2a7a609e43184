"""How good clusters are: how far apart, how they agree with what is known of the cells, how batches are mixed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tasks.core.base.settings import Settings
from tasks.core.dataset.columns import Column, read_column
from tasks.core.model.label import embedded_blocks, stored_labels
from tasks.core.numerics.association import cramers_v
from tasks.core.numerics.block import IntArray, NumberArray, encode_matrix
from tasks.core.numerics.contingency import Contingency, tabulate
from tasks.core.numerics.fold import Blocks
from tasks.core.numerics.lisi import mixing
from tasks.core.numerics.sample import draw, pick, take
from tasks.core.numerics.separation import separation, silhouette
from tasks.core.references.cells import Cells
from tasks.core.references.insight import Comparison, CrossTable, Mixing, Scores, Split
from tasks.core.references.model import Assigned, Embedding
from tasks.core.storage.store import Outcome, StageKey, Store

VERSION = 5
# What is computed of a sample costs its square.
_SAMPLE = 3_000
# Cells whose neighbours among all cells are looked at: each costs a pass over the cells.
QUERIES = 1_000


@dataclass(frozen=True)
class Judged:
    """What is judged, partition by partition.

    Attributes:
        components: the embedding before it was corrected, if it was.
        embeddings: that the clusters are of.
        clusterings: by the name of their column, the one that names the clusters first.
    """

    cells: Sequence[Cells]
    components: Sequence[Embedding]
    embeddings: Sequence[Embedding]
    clusterings: Mapping[str, Assigned]


def judge(store: Store, of: Judged, settings: Settings) -> Outcome[Scores]:
    """Score each clustering by itself and against the compared columns, and the batches' mixing."""
    recipe = settings.recipe_in_full
    inputs = {
        "components": [part.key for part in of.components],
        "embeddings": [part.key for part in of.embeddings],
        "clusterings": {name: assigned.key for name, assigned in of.clusterings.items()},
        "columns": [recipe.batch, *recipe.compared],
        "seed": settings.seed,
    }
    key = StageKey(stage="scores", version=VERSION, inputs=inputs)

    def make() -> Scores:
        workers = settings.threads
        columns = [read_column(store, of.cells, name, workers) for name in recipe.compared]
        batches = read_column(store, of.cells, recipe.batch_column, workers) if recipe.batch_column else None
        others = [column for column in columns if column.name != recipe.batch]
        clusterings = [_clustering(store, name, assigned, workers) for name, assigned in of.clusterings.items()]
        sample = _Sample.of(embedded_blocks(store, of.embeddings, workers), settings.seed)
        return Scores(
            key=key.digest,
            splits=tuple(_split(sample, clustering) for clustering in clusterings),
            comparisons=tuple(_compare(clustering, column) for clustering in clusterings for column in columns),
            compositions=tuple(_cross(store, key, clusterings[0], column) for column in columns),
            batches=tuple(_cross(store, key, batches, column) for column in others) if batches else (),
            confounding=_confounding(batches, others) if batches else {},
            mixing=_mixing(store, of, batches, settings) if batches else None,
        )

    return store.answer(key, Scores, make)


def _clustering(store: Store, name: str, assigned: Assigned, workers: int) -> Column:
    """Give the clusters of all cells as if they were a column of the metadata."""
    return Column(name, tuple(map(str, assigned.names)), assigned.sizes, stored_labels(store, assigned, workers))


@dataclass(frozen=True)
class _Sample:
    """Some cells of all partitions."""

    blocks: Blocks[NumberArray]
    rows: Sequence[IntArray]
    cells: NumberArray

    @classmethod
    def of(cls, blocks: Blocks[NumberArray], seed: int) -> "_Sample":
        rows = draw(blocks.rows, _SAMPLE, np.random.default_rng(seed))
        return cls(blocks, rows, take(blocks, rows))


def _split(sample: _Sample, clustering: Column) -> Split:
    clusters = len(clustering.values)
    apart = separation(sample.blocks, clustering.codes, clusters)
    return Split(
        name=clustering.name,
        clusters=clusters,
        silhouette=silhouette(sample.cells, pick(clustering.codes, sample.rows)),
        calinski_harabasz=apart.calinski_harabasz if apart else None,
        davies_bouldin=apart.davies_bouldin if apart else None,
    )


def _compare(clustering: Column, column: Column) -> Comparison:
    table = _tabulate(column, clustering)
    return Comparison(
        clustering=clustering.name,
        column=column.name,
        adjusted_rand_index=table.adjusted_rand_index,
        normalized_mutual_information=table.normalized_mutual_information,
        recalls=dict(zip(column.values, table.recalls.tolist(), strict=True)),
    )


def _cross(store: Store, key: StageKey, row: Column, column: Column) -> CrossTable:
    table = _tabulate(row, column).cells
    name = f"{row.name}-{column.name}".encode().hex()
    return CrossTable(
        row=row.name,
        column=column.name,
        row_values=row.values,
        column_values=column.values,
        cells=store.put(f"{key.folder}/{name}.arrow", encode_matrix(table), len(table)),
    )


def _tabulate(row: Column, column: Column) -> Contingency:
    return tabulate(row.codes, column.codes, len(row.values), len(column.values))


def _confounding(batches: Column, columns: Sequence[Column]) -> dict[str, float]:
    return {column.name: cramers_v(_tabulate(batches, column).cells) for column in columns}


def _mixing(store: Store, of: Judged, batches: Column, settings: Settings) -> Mixing:
    components, embeddings = (embedded_blocks(store, part, settings.threads) for part in (of.components, of.embeddings))
    queries = draw(components.rows, QUERIES, np.random.default_rng(settings.seed))
    number = len(batches.values)
    after = mixing(embeddings, batches.codes, queries, number)
    # Without a correction they are the same.
    before = after if of.components == of.embeddings else mixing(components, batches.codes, queries, number)
    return Mixing(batch=batches.name, before=before, after=after)
