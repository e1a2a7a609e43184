"""Harmony (Korsunsky et al. 2019): takes batches out of an embedding, in passes over blocks of cells.

Each round clusters the cells softly, with a penalty for clusters in which a batch is more common than elsewhere, and
then takes from each cell what a ridge regression on the batch, one a cluster, says that its batch adds. Defaults and
the rule to stop are those of harmonypy 2.

Harmony updates assignments of a random twentieth of the cells at a time, so that each twentieth sees what the ones
before did. In a fold all cells see the same penalty, and left alone would leave a cluster together and come back
together. So the log of the penalty goes only half of the way to that of the new assignments; measured on real and
simulated cells, four such passes come to the objective of four of Harmony's within 1e-3.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import add
from typing import Any, Protocol

import numpy as np
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning

from tasks.core.base.errors import NumericsError, SettingsError
from tasks.core.base.progress import Progress, report
from tasks.core.numerics.batch_ridge import log_excess, ridge
from tasks.core.numerics.block import Float32Array, Float64Array, IntArray, NumberArray
from tasks.core.numerics.fold import Blocks, one_blas_thread
from tasks.core.numerics.sample import draw, take
from tasks.core.numerics.soft_clusters import Masses, RidgeSums, SoftClusters, by_batch, to_length_1

_PASSES = 4
_STEP = 0.5
_CELLS_A_CLUSTER = 30
_MOST_CLUSTERS = 100
_OBJECTIVE_SCALE = 2000.0
# Cells of which the start is found; starts and passes as harmonypy had them while it used scikit-learn.
_SAMPLE = 10_000
_STARTS = 10
_START_ITERATIONS = 25


class Rounds(Protocol):
    """Where the corrected embedding of each round is kept."""

    def writer(self, number: int) -> Callable[[int, Float32Array], Any]:
        """Give what keeps the blocks of a round, from 1 on, and says in a few words where each is.

        It is called, also in other processes and several times at once, with the number of a block, as in the
        embedding that is corrected, and the block, (cells, components), while the blocks of the round before are read.
        A block that is written again (a stage that was stopped begins anew) replaces the first.
        """

    def blocks(self, kept: Sequence[Any], workers: int) -> Blocks[NumberArray]:
        """Give so many workers the blocks of the last round, in order; those before are needed no more."""


@dataclass(frozen=True)
class Harmony:
    """Parameters; names and defaults of Harmony.

    Attributes:
        theta: weight of the penalty for clusters in which batches are not as everywhere.
        sigma: how soft the clusters are.
        alpha: ridge penalty of a batch in a cluster, as a share of the cells expected there.
        clusters: how many; by default one for 30 cells, and 100 at most.
        max_rounds: rounds after which to stop in any case.
        tolerance: relative fall of the objective from round to round below which to stop.
        seed: of the start.
    """

    theta: float = 2.0
    sigma: float = 0.1
    alpha: float = 0.2
    clusters: int | None = None
    max_rounds: int = 10
    tolerance: float = 1e-2
    seed: int = 0


@dataclass(frozen=True)
class Harmonized:
    """What a correction came to.

    Attributes:
        rounds: rounds made; the last one's blocks are the corrected embedding.
        converged: whether the objective came to rest within the rounds allowed.
        objectives: of the start and after each round.
    """

    rounds: int
    converged: bool
    objectives: tuple[float, ...]


def harmonize(
    blocks: Blocks[NumberArray], batches: Blocks[IntArray], names: Sequence[str], rounds: Rounds, harmony: Harmony
) -> Harmonized:
    """Correct an embedding for batches; costs six assignments of each cell a round.

    Args:
        blocks: the embedding, (cells, components).
        batches: for each block, the number of each cell's batch.
        names: of the batches, by number; not all need have cells.
        rounds: where the corrected embeddings go.
        harmony: parameters.

    Raises:
        SettingsError: all cells are of one batch, a batch has one cell, or there are more clusters than cells.
        NumericsError: a value of the embedding is not finite; names the block.
    """
    cells_b = _cells(batches, names)
    with one_blas_thread():
        return _Passes(blocks, batches, cells_b, rounds, harmony).run()


def _cells(batches: Blocks[IntArray], names: Sequence[str]) -> IntArray:
    cells_b = batches.sum(lambda codes: np.bincount(codes, minlength=len(names)))
    present = np.flatnonzero(cells_b).tolist()
    if len(present) < 2:
        raise SettingsError(
            f"all {cells_b.sum():,} cells are of the batch {names[present[0]]!r}, so there is nothing to correct; "
            "name a column with two batches or more, or none"
        )
    alone = [names[batch] for batch in present if cells_b[batch] == 1]
    if alone:
        others = f" (and {len(alone) - 1} more)" if len(alone) > 1 else ""
        raise SettingsError(
            f"the batch {alone[0]!r}{others} has 1 cell, where 2 are the least; leave it out, or name another column"
        )
    return cells_b


class _Passes:
    """The passes over one embedding."""

    def __init__(
        self,
        blocks: Blocks[NumberArray],
        batches: Blocks[IntArray],
        cells_b: IntArray,
        rounds: Rounds,
        harmony: Harmony,
    ) -> None:
        self._blocks, self._batches, self._rounds, self._harmony = blocks, batches, rounds, harmony
        self._cells_b = cells_b
        by_size = min(round(int(cells_b.sum()) / _CELLS_A_CLUSTER), _MOST_CLUSTERS)
        self._clusters = max(by_size, 1) if harmony.clusters is None else harmony.clusters

    def run(self) -> Harmonized:
        """Make rounds until the objective is at rest."""
        free = SoftClusters(self._start(), np.zeros((len(self._cells_b), self._clusters)), self._harmony.sigma)
        masses = self._sum_up(self._blocks, free)
        objectives = [self._objective(free, masses)]
        current = self._blocks
        for number in range(1, self._harmony.max_rounds + 1):
            soft, sums = self._cluster(current, free, masses)
            objectives.append(self._objective(soft, sums.masses))
            centres_ck, added_bck = ridge(sums, self._cells_b, self._harmony.alpha, free.centres_ck)
            free = replace(free, centres_ck=centres_ck)
            masses, kept = self._correct(number, current, soft, added_bck, free)
            current = self._rounds.blocks(kept, self._blocks.workers)
            report(Progress("correction", "round", number, note=f"objective {objectives[-1]:.6g}"))
            if (objectives[-2] - objectives[-1]) / abs(objectives[-2]) < self._harmony.tolerance:
                return Harmonized(number, converged=True, objectives=tuple(objectives))
        return Harmonized(self._harmony.max_rounds, converged=False, objectives=tuple(objectives))

    def _start(self) -> Float64Array:
        rows = draw(self._blocks.rows, _SAMPLE, np.random.default_rng(self._harmony.seed))
        cells = to_length_1(take(self._blocks, rows))
        if not 1 <= self._clusters <= len(cells):
            raise SettingsError(
                f"clusters={self._clusters} must be from 1 to the cells that they start from, {len(cells):,}"
            )
        if not np.isfinite(cells).all():
            raise NumericsError("the embedding has values that are not finite")
        seed = self._harmony.seed
        kmeans = KMeans(self._clusters, n_init=_STARTS, max_iter=_START_ITERATIONS, random_state=seed)
        with warnings.catch_warnings():
            # Of cells that are alike there are fewer kinds than clusters.
            warnings.simplefilter("ignore", ConvergenceWarning)
            return to_length_1(kmeans.fit(cells).cluster_centers_).astype(np.float64)

    def _sum_up(self, blocks: Blocks[NumberArray], soft: SoftClusters) -> Masses:
        batches = len(self._cells_b)

        def masses(z_nk: NumberArray, codes_n: IntArray) -> Masses:
            return _finite(Masses.of(*soft.assign(z_nk, codes_n), codes_n, batches))

        return blocks.sum(masses, self._batches)

    def _cluster(
        self, current: Blocks[NumberArray], free: SoftClusters, masses: Masses
    ) -> tuple[SoftClusters, RidgeSums]:
        """Bring the penalties near to those of the assignments that they lead to; the last pass sums up for ridge."""
        soft, batches = self._penalize(free, masses), len(self._cells_b)
        for _ in range(_PASSES - 1):
            soft = self._penalize(soft, self._sum_up(current, soft))

        def sums(pair: tuple[NumberArray, NumberArray], codes_n: IntArray) -> RidgeSums:
            assigned_nc, log_divisors_n = soft.assign(pair[1], codes_n)
            masses = _finite(Masses.of(assigned_nc, log_divisors_n, codes_n, batches))
            return RidgeSums.of(masses, assigned_nc, pair[0], codes_n)

        return soft, _pairs(self._blocks, current).sum(sums, self._batches)

    def _penalize(self, soft: SoftClusters, masses: Masses) -> SoftClusters:
        found_bc = -self._harmony.theta * log_excess(masses, self._cells_b)
        return replace(soft, penalty_bc=(1.0 - _STEP) * soft.penalty_bc + _STEP * found_bc)

    def _objective(self, soft: SoftClusters, masses: Masses) -> float:
        # Distances and entropies of a cell sum up to what its penalties weigh less the log of its divisor.
        penalty_bc = soft.penalty_bc + self._harmony.theta * log_excess(masses, self._cells_b)
        of_all = float((masses.observed_bc * penalty_bc).sum()) - masses.log_divisors
        return _OBJECTIVE_SCALE / float(self._cells_b.sum()) * soft.sigma * of_all

    def _correct(
        self, number: int, current: Blocks[NumberArray], soft: SoftClusters, added_bck: Float64Array, free: SoftClusters
    ) -> tuple[Masses, Sequence[Any]]:
        """Take out what batches add, keep the result and assign it to the new clusters without penalty."""
        batches, write = len(self._cells_b), self._rounds.writer(number)

        def corrected(pair: tuple[NumberArray, NumberArray], codes_n: IntArray, index: int) -> tuple[Masses, Any]:
            assigned_nc, _ = soft.assign(pair[1], codes_n)
            z_nk = pair[0].astype(np.float32)
            for batch, cells in by_batch(codes_n):
                z_nk[cells] -= assigned_nc[cells] @ added_bck[batch].astype(np.float32)
            return _finite(Masses.of(*free.assign(z_nk, codes_n), codes_n, batches)), write(index, z_nk)

        indices = range(len(self._blocks.sources))
        kept: list[Any] = []

        def masses() -> Iterator[Masses]:
            # One after the other: those of thousands of blocks would take more room than what is kept of each.
            for of_block, where in _pairs(self._blocks, current).map(corrected, self._batches, indices):
                kept.append(where)
                yield of_block

        return reduce(add, masses()), kept


def _finite(masses: Masses) -> Masses:
    if not np.isfinite(masses.log_divisors):
        raise NumericsError("has values that are not finite")
    return masses


def _pairs(blocks: Blocks[NumberArray], current: Blocks[NumberArray]) -> Blocks[tuple[NumberArray, NumberArray]]:
    """Give each block as it was before all rounds together with what it is now."""
    return Blocks(
        sources=list(zip(blocks.sources, current.sources, strict=True)),
        names=blocks.names,
        rows=blocks.rows,
        read=lambda pair: (blocks.read(pair[0]), current.read(pair[1])),
        workers=blocks.workers,
    )
