from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise
from typing import Any

import harmonypy
import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from tasks.core.base.errors import NumericsError, SettingsError
from tasks.core.numerics import harmony
from tasks.core.numerics.block import Float32Array, IntArray, NumberArray
from tasks.core.numerics.block_kmeans import BlockKMeans
from tasks.core.numerics.fold import Blocks
from tasks.core.numerics.harmony import Harmonized, Harmony, harmonize
from tests.core.numerics.mixology import variable
from tests.memory import most_memory

Cells = tuple[Float32Array, IntArray]


@dataclass
class MemoryRounds:
    """Keeps the last round in memory."""

    kept: Sequence[Float32Array] = ()

    def writer(self, number: int) -> Callable[[int, Float32Array], Float32Array]:
        return lambda index, z_nk: z_nk

    def blocks(self, kept: Sequence[Float32Array], workers: int) -> Blocks[NumberArray]:
        self.kept = kept
        names = [f"block {index}" for index in range(len(kept))]
        return Blocks(range(len(kept)), names, [len(block) for block in kept], kept.__getitem__, workers)


def corrected(cells: Cells, size: int = 700, workers: int = 1, seed: int = 0) -> tuple[Float32Array, Harmonized]:
    z_nk, codes_n = cells
    rounds = MemoryRounds()
    names = [f"plate{batch}" for batch in range(codes_n.max() + 1)]
    codes: Blocks[IntArray] = Blocks.cut(codes_n, size, workers)
    done = harmonize(Blocks.cut(z_nk, size, workers), codes, names, rounds, Harmony(seed=seed))
    blocks = rounds.blocks(rounds.kept, workers)
    return np.concatenate([np.asarray(blocks.read(source), np.float32) for source in blocks.sources]), done


def correlations(a_nk: NumberArray, b_nk: NumberArray) -> NumberArray:
    return np.array([np.corrcoef(a, b)[0, 1] for a, b in zip(a_nk.T, b_nk.T, strict=True)])


@cache
def real() -> Cells:
    adata = variable()
    return adata.obsm["X_pca"], adata.obs["plate"].cat.codes.to_numpy().astype(np.int64)


@cache
def simulated() -> Cells:
    """Six kinds of cells in four batches of unlike size, each shifted, and a little more in each kind."""
    rng = np.random.default_rng(0)
    kinds, codes = rng.integers(6, size=3_000), rng.choice(4, size=3_000, p=[0.4, 0.3, 0.2, 0.1])
    scale = np.linspace(3.0, 1.0, 20)
    kind, batch, both = (rng.normal(size=(*shape, 20)) * scale for shape in ((6,), (4,), (4, 6)))
    z_nk = (
        1.5 * kind[kinds] + 0.6 * batch[codes] + 0.1 * both[codes, kinds] + 0.4 * scale * rng.normal(size=(3_000, 20))
    )
    return z_nk.astype(np.float32), codes


@pytest.mark.parametrize("cells", [real, simulated])
def test_agrees_with_harmonypy(cells: Callable[[], Cells]) -> None:
    z_nk, codes_n = cells()
    theirs = harmonypy.run_harmony(z_nk, {"plate": codes_n}, "plate", verbose=False).Z_corr
    ours, done = corrected(cells())
    assert done.converged
    assert (np.diff(done.objectives) < 0).all()
    assert correlations(ours, theirs).min() >= 0.98
    labels = [BlockKMeans(5, random_state=0).fit_predict(embedding) for embedding in (ours, theirs)]
    assert adjusted_rand_score(*labels) >= 0.99


def test_blocks_do_not_matter() -> None:
    whole, done = corrected(real(), size=1_021)
    cut, same = corrected(real(), size=97)
    assert same.rounds == done.rounds
    np.testing.assert_allclose(cut, whole, atol=1e-5 * np.abs(whole).max())


def test_workers_do_not_matter_to_the_last_bit() -> None:
    one, done = corrected(simulated(), size=250)
    three, same = corrected(simulated(), size=250, workers=3)
    assert np.array_equal(one, three)
    assert done == same


def test_a_block_without_cells_adds_nothing() -> None:
    z_nk, codes_n = simulated()
    cuts = [0, 1_000, 1_000, 3_000]
    parts = [slice(*ends) for ends in pairwise(cuts)]
    blocks: Blocks[Any] = Blocks(parts, ["a", "b", "c"], [1_000, 0, 2_000], z_nk.__getitem__, workers=2)
    names = [str(batch) for batch in range(5)]
    rounds = MemoryRounds()
    done = harmonize(blocks, replace(blocks, read=codes_n.__getitem__), names, rounds, Harmony())
    assert done.rounds == corrected(simulated())[1].rounds
    assert [len(block) for block in rounds.kept] == [1_000, 0, 2_000]


def test_a_cluster_that_one_batch_has_to_itself_stays_where_it_is() -> None:
    rng = np.random.default_rng(0)
    shared, alone = (rng.normal(middle, 1.0, size=(200, 3)) for middle in ([20.0, 0.0, 0.0], [0.0, 0.0, 40.0]))
    z_nk = np.concatenate([shared, alone]).astype(np.float32)
    ours = corrected((z_nk, np.array([0, 1] * 100 + [0] * 200)))[0]
    np.testing.assert_allclose(ours[200:], z_nk[200:], atol=0.5)
    assert np.isfinite(ours).all()


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        ([1] * 60, "all 60 cells are of the batch 'plate1', so there is nothing to correct"),
        ([0] + [1] * 59, "the batch 'plate0' has 1 cell, where 2 are the least; leave it out"),
        ([0, 1] + [2] * 58, r"the batch 'plate0' \(and 1 more\) has 1 cell"),
    ],
)
def test_batches_that_cannot_be_corrected_are_refused(codes: list[int], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        corrected((np.ones((60, 3), np.float32), np.array(codes)))


def test_values_that_are_not_finite_are_refused() -> None:
    z_nk, codes_n = simulated()
    broken = z_nk.copy()
    broken[1_000, 3] = np.nan
    with pytest.raises(NumericsError, match="not finite"):
        corrected((broken, codes_n))


@dataclass
class NoRounds:
    """Keeps nothing: the cells stay as they were."""

    cells: Blocks[NumberArray]

    def writer(self, number: int) -> Callable[[int, Float32Array], int]:
        return lambda index, z_nk: index

    def blocks(self, kept: Sequence[int], workers: int = 1) -> Blocks[NumberArray]:
        return self.cells


def test_memory_does_not_grow_with_the_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harmony, "_SAMPLE", 500)
    rng = np.random.default_rng(0)
    part, codes_n = rng.normal(size=(300, 5)).astype(np.float32), np.arange(300) % 60

    def most(number: int) -> int:
        cells: Blocks[Any] = Blocks(range(number), [""] * number, [300] * number, lambda _: part.copy(), 1)
        names, asked = [str(batch) for batch in range(60)], Harmony(clusters=100, max_rounds=1)
        with most_memory() as found:
            harmonize(cells, replace(cells, read=lambda _: codes_n.copy()), names, NoRounds(cells), asked)
        return found.bytes

    most(5)
    assert most(100) < most(10) + 1_500_000
