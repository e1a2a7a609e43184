"""The embedding without the differences between batches: Harmony, its rounds kept in the store."""

from collections.abc import Sequence
from dataclasses import dataclass, field

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

VERSION = 1


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
        batches = read_batches(store, cells, recipe)
        if batches is None:
            raise SettingsError(f"--correction {recipe.correction} needs --batch, the column of the batches")
        blocks, rounds = embedded_blocks(store, embeddings, settings.threads), _StoredRounds(store, key, embeddings)
        found = harmonize(blocks, batches.codes, batches.values, rounds, Harmony(seed=settings.seed))
        return Corrected(
            key=key.digest,
            embeddings=tuple(
                part.model_copy(update={"key": f"{key.digest}-{at}", "table": rounds.kept[found.rounds, at]})
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
    kept: dict[tuple[int, int], ObjectRef] = field(default_factory=dict)

    def write(self, number: int, index: int, z_nk: Float32Array) -> None:
        path = f"{self.key.folder}/round-{number:02}-{index:05}.arrow"
        self.kept[number, index] = self.store.put(path, encode_matrix(z_nk), len(z_nk))

    def blocks(self, number: int) -> Blocks[NumberArray]:
        for at in [at for at in self.kept if at[0] < number]:
            self.store.files.remove(self.kept.pop(at).path)
        of_round = [part.model_copy(update={"table": self.kept[number, at]}) for at, part in enumerate(self.embeddings)]
        return embedded_blocks(self.store, of_round, 1)
