"""The embedding without the differences between batches: Harmony, its rounds kept in the store."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tasks.core.base.errors import SettingsError
from tasks.core.base.settings import Settings
from tasks.core.dataset.columns import read_batches
from tasks.core.model.label import embedded_blocks
from tasks.core.numerics.block import Float32Array, NumberArray, encode_matrix
from tasks.core.numerics.fold import Blocks
from tasks.core.numerics.harmony import Harmony, harmonize
from tasks.core.references.cells import Cells
from tasks.core.references.model import Corrected, Embedding
from tasks.core.storage.store import ObjectRef, Outcome, StageKey, Store

VERSION = 4


def correct_batches(
    store: Store, cells: Sequence[Cells], embeddings: Sequence[Embedding], settings: Settings
) -> Outcome[Corrected]:
    """Take what is a batch's own out of the embedding of all partitions.

    Raises:
        SettingsError: the cells come in no batches, or one of them has a single cell.
    """
    recipe = settings.recipe_in_full
    inputs = {"cells": [part.key for part in embeddings], "batch": recipe.batch, "seed": settings.seed}
    key = StageKey(stage=recipe.correction, version=VERSION, inputs=inputs)

    def make() -> Corrected:
        batches = read_batches(store, cells, recipe, settings.threads)
        if batches is None:
            raise SettingsError(f"--correction {recipe.correction} needs --batch, the column of the batches")
        blocks, rounds = embedded_blocks(store, embeddings, settings.threads), _StoredRounds(store, key, embeddings)
        found = harmonize(blocks, batches.codes, batches.values, rounds, Harmony(seed=settings.seed))
        return Corrected(
            key=key.digest,
            embeddings=tuple(
                part.model_copy(update={"key": f"{key.digest}-{at}", "table": rounds.kept[at]})
                for at, part in enumerate(embeddings)
            ),
            batches=batches.values,
            rounds=found.rounds,
            settled=found.converged,
        )

    return store.answer(key, Corrected, make)


@dataclass
class _StoredRounds:
    """The corrected embedding after each round; two rounds at most are in the store."""

    store: Store
    key: StageKey
    embeddings: Sequence[Embedding]
    kept: Sequence[ObjectRef] = ()

    def writer(self, number: int) -> Callable[[int, Float32Array], ObjectRef]:
        store, folder = self.store, self.key.folder

        def write(index: int, z_nk: Float32Array) -> ObjectRef:
            return store.put(f"{folder}/round-{number:02}-{index:05}.arrow", encode_matrix(z_nk), len(z_nk))

        return write

    def blocks(self, kept: Sequence[ObjectRef], workers: int) -> Blocks[NumberArray]:
        for ref in self.kept:
            self.store.files.remove(ref.path)
        self.kept = kept
        of_round = [part.model_copy(update={"table": ref}) for part, ref in zip(self.embeddings, kept, strict=True)]
        return embedded_blocks(self.store, of_round, workers)
