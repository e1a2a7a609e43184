"""Leiden communities of all cells, and the community of each."""

from collections.abc import Sequence

from tasks.core.base.settings import Settings
from tasks.core.model.label import embedded_blocks, put_labels
from tasks.core.numerics.leiden import leiden
from tasks.core.references.model import Communities, Embedding
from tasks.core.storage.store import Outcome, StageKey, Store

VERSION = 4


def find_communities(store: Store, partitions: Sequence[Embedding], settings: Settings) -> Outcome[Communities]:
    """Find communities on the neighbour graph of cells, and label every cell; that of most cells of the graph is 0."""
    resolution = settings.recipe_in_full.leiden
    inputs = {"cells": [part.key for part in partitions], "resolution": resolution, "seed": settings.seed}
    key = StageKey(stage="leiden", version=VERSION, inputs=inputs)

    def make() -> Communities:
        blocks = embedded_blocks(store, partitions, settings.threads)
        found = leiden(blocks, resolution, settings.seed)
        labels, sizes = put_labels(store, key, blocks, found.label, len(found))
        return Communities(
            key=key.digest,
            names=tuple(range(len(found))),
            labels=labels,
            sizes=sizes,
            nodes=len(found.nodes_mk),
            modularity=found.modularity,
        )

    return store.answer(key, Communities, make)
