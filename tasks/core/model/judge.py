"""How good clusters are: how far apart, how they agree with what is known of the cells, how batches are mixed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add

import numpy as np

from tasks.core.base.settings import Settings
from tasks.core.dataset.columns import Column, read_column
from tasks.core.model.label import embedded_blocks, read_labels
from tasks.core.numerics.association import cramers_v
from tasks.core.numerics.block import IntArray, NumberArray, encode_matrix
from tasks.core.numerics.contingency import Contingency
from tasks.core.numerics.fold import Blocks
from tasks.core.numerics.lisi import mixing
from tasks.core.numerics.sample import draw, take
from tasks.core.numerics.separation import separation, silhouette
from tasks.core.references.cells import Cells
from tasks.core.references.insight import Comparison, CrossTable, Mixing, Scores, Split
from tasks.core.references.model import Assigned, Embedding
from tasks.core.storage.store import Outcome, StageKey, Store

VERSION = 4
# What is computed of a sample costs its square.
_SAMPLE = 3_000


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
        columns = [read_column(store, of.cells, name) for name in recipe.compared]
        batches = read_column(store, of.cells, recipe.batch_column) if recipe.batch_column else None
        others = [column for column in columns if column.name != recipe.batch]
        labels = {name: read_labels(store, assigned) for name, assigned in of.clusterings.items()}
        sample = _Sample.of(embedded_blocks(store, of.embeddings, settings.threads), settings.seed)
        first = next(iter(labels))
        clusters = Column(first, tuple(map(str, of.clusterings[first].names)), tuple(labels[first]))
        return Scores(
            key=key.digest,
            splits=tuple(_split(sample, name, labels[name], of.clusterings[name]) for name in labels),
            comparisons=tuple(
                _compare(name, labels[name], of.clusterings[name], column) for name in labels for column in columns
            ),
            compositions=tuple(_cross(store, key, clusters, column) for column in columns),
            batches=tuple(_cross(store, key, batches, column) for column in others) if batches else (),
            confounding=_confounding(batches, others) if batches else {},
            mixing=_mixing(store, of, sample, batches, settings) if batches else None,
        )

    return store.answer(key, Scores, make)


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

    def within(self, codes: Sequence[IntArray]) -> IntArray:
        return np.concatenate([of_part[rows] for of_part, rows in zip(codes, self.rows, strict=True)])


def _split(sample: _Sample, name: str, labels: Sequence[IntArray], clustering: Assigned) -> Split:
    apart = separation(sample.blocks, labels, len(clustering.names))
    return Split(
        name=name,
        clusters=len(clustering.names),
        silhouette=silhouette(sample.cells, sample.within(labels)),
        calinski_harabasz=apart.calinski_harabasz if apart else None,
        davies_bouldin=apart.davies_bouldin if apart else None,
    )


def _compare(name: str, labels: Sequence[IntArray], clustering: Assigned, column: Column) -> Comparison:
    table = _tabulate(column, Column(name, tuple(map(str, clustering.names)), tuple(labels)))
    return Comparison(
        clustering=name,
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
    sizes = len(row.values), len(column.values)
    parts = zip(row.codes, column.codes, strict=True)
    return reduce(add, (Contingency.of(of_row, of_column, *sizes) for of_row, of_column in parts))


def _confounding(batches: Column, columns: Sequence[Column]) -> dict[str, float]:
    return {column.name: cramers_v(_tabulate(batches, column).cells) for column in columns}


def _mixing(store: Store, of: Judged, sample: _Sample, batches: Column, settings: Settings) -> Mixing:
    codes = sample.within(batches.codes)
    components = take(embedded_blocks(store, of.components, settings.threads), sample.rows)
    return Mixing(batch=batches.name, before=mixing(components, codes), after=mixing(sample.cells, codes))
