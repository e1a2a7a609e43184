from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import pyarrow as pa
import pytest
from sklearn.metrics import adjusted_rand_score, davies_bouldin_score, silhouette_score

from tasks.core.base.settings import Settings
from tasks.core.model import judge as judgement
from tasks.core.model.find_markers import find_markers
from tasks.core.model.judge import Judged, judge
from tasks.core.numerics.block import Block, encode_matrix, encode_table
from tasks.core.numerics.packed import pack
from tasks.core.references.cells import Cells, GeneOrder, Normalized, Vocabulary
from tasks.core.references.insight import Scores
from tasks.core.references.model import Assigned, Embedding
from tasks.core.storage.store import ObjectRef, Store, store_of
from tests.memory import most_memory

CELLS, GENES, CLUSTERS = 8_000, 50, 4


@dataclass(frozen=True)
class Partitions:
    """So many partitions of clustered cells, all of them the same objects in the store."""

    store: Store
    settings: Settings
    cells: list[Cells]
    embeddings: list[Embedding]
    normalized: list[Normalized]
    clusters: Assigned

    @classmethod
    def of(cls, folder: Path, number: int) -> Self:
        settings = Settings(
            dataset="synthetic", store=str(folder), recipe="atlas", compare="drug,plate", batch="plate", workers=2
        )
        store, rng = store_of(settings), np.random.default_rng(0)
        labels = rng.integers(CLUSTERS, size=CELLS)
        z_nk = (np.eye(CLUSTERS)[labels] * 9 + rng.normal(size=(CELLS, CLUSTERS))).astype(np.float32)
        known = {"drug": [f"drug {label}" for label in labels], "plate": [f"plate {at % 2}" for at in range(CELLS)]}

        def put(name: str, data: memoryview, rows: int = CELLS) -> ObjectRef:
            return store.keep("made", name, data, rows)

        metadata, table = put("metadata", encode_table(pa.table(known))), put("table", encode_matrix(z_nk))
        genes = np.sort(np.stack([rng.choice(GENES, 5, replace=False) for _ in range(CELLS)]), axis=1)
        counts = Block(np.arange(0, 5 * CELLS + 1, 5), genes.ravel(), rng.integers(1, 9, 5 * CELLS))
        common = {"origin": "here", "cells": CELLS, "nonzeros": 5 * CELLS}
        keys = [f"{at}" for at in range(number)]
        blocks, of_cells = (put("block", pack(counts, GENES)),), put("labels", encode_matrix(labels[:, None]))
        return cls(
            store,
            settings,
            [Cells(key=key, metadata=metadata, landed=key, **common) for key in keys],
            [Embedding(key=key, origin="here", cells=CELLS, table=table) for key in keys],
            [Normalized(key=key, moments=metadata, blocks=blocks, **common) for key in keys],
            Assigned(
                key=f"{number}",
                names=tuple(range(CLUSTERS)),
                labels=(of_cells,) * number,
                sizes=tuple((np.bincount(labels) * number).tolist()),
            ),
        )

    def judged(self) -> Scores:
        of = Judged(self.cells, self.embeddings, self.embeddings, {"cluster": self.clusters, "leiden": self.clusters})
        return judge(self.store, of, self.settings).result

    def marked(self) -> None:
        names = pa.table({"ensembl_id": [f"g{at}" for at in range(GENES)], "gene_symbol": ["G"] * GENES})
        vocabulary = Vocabulary(
            key="v", genes=GENES, table=self.store.keep("made", "genes", encode_table(names), GENES)
        )
        ranks = self.store.keep("made", "ranks", encode_matrix(np.arange(GENES, dtype=np.int32)[:, None]), GENES)
        order = GeneOrder(key="o", genes=GENES, ranks=ranks)
        find_markers(self.store, self.normalized, order, vocabulary, self.clusters, self.settings)


@pytest.fixture
def few_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judgement, "_SAMPLE", 100)
    monkeypatch.setattr(judgement, "QUERIES", 50)


def test_scores_are_those_of_all_cells(tmp_path: Path) -> None:
    made = Partitions.of(tmp_path, 1)
    found = made.judged()
    rng = np.random.default_rng(0)
    labels = rng.integers(CLUSTERS, size=CELLS)
    z_nk = (np.eye(CLUSTERS)[labels] * 9 + rng.normal(size=(CELLS, CLUSTERS))).astype(np.float32)
    for split in found.splits:
        assert split.silhouette == pytest.approx(silhouette_score(z_nk[:3_000], labels[:3_000]), abs=0.02)
        assert split.davies_bouldin == pytest.approx(davies_bouldin_score(z_nk.astype(float), labels))
    with_drug, with_plate = found.comparisons[:2]
    assert with_drug.adjusted_rand_index == 1.0
    assert with_drug.recalls == {f"drug {label}": 1.0 for label in range(CLUSTERS)}
    assert with_plate.adjusted_rand_index == pytest.approx(adjusted_rand_score(np.arange(CELLS) % 2, labels))
    assert found.mixing is not None
    assert found.mixing.after is not None
    assert found.mixing.after > 0.9
    assert found.mixing.before == found.mixing.after


@pytest.mark.usefixtures("few_drawn")
@pytest.mark.parametrize("stage", [Partitions.judged, Partitions.marked])
def test_memory_does_not_grow_with_the_cells(tmp_path: Path, stage: Callable[[Partitions], object]) -> None:
    def most(number: int) -> int:
        made = Partitions.of(tmp_path, number)
        with most_memory() as found:
            stage(made)
        return found.bytes

    most(1)
    # What Arrow holds is looked at time and again: over as many partitions, so as to see as much of it.
    grown = most(160) - max(most(40) for _ in range(4))
    # References of partitions, and less than a byte of each of their cells.
    assert grown < 120 * CELLS
