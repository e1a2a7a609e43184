"""A simulated drug screen: which cells there are, and which genes each one's molecules belong to.

A cell's molecules are tickets drawn from pools. Most come from the pool of its line, a share from that of its
plate and, unless its well holds the vehicle, a share from that of its drug. A gene has a whole number of tickets
in a pool, so what was planted is known exactly, and a gene that no effect touches has as many in every line.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tasks.core.dataset.cells import MARKER_TOKEN, MARKER_VALUE

GENES, FIRST_TOKEN = 62_710, 3
LINES, PLATES, DRUGS, MECHANISMS = 50, 14, 94, 12
VEHICLE_WELLS = 2
WELLS = VEHICLE_WELLS + DRUGS

# Chosen so that a cell has about 2,300 molecules of 1,430 genes, as in Tahoe-100M.
MEAN_MOLECULES, DEPTH_SD = 2_300, 0.4
EXPRESSED_SHARE, SILENT_LEVEL, LEVEL_SD = 0.115, 2.0**-8, 1.1
PROFILE_TICKETS, PROGRAMME_TICKETS = 2**18, 2**14

# Effects fall on genes seen often enough to show one, but none so common that it shifts the whole profile.
FEWEST_TICKETS, MOST_TICKETS = 8, 256
LINE_GENES, LINE_SD = 3_000, 1.7
PLATE_GENES, PLATE_SHARE = 300, 0.04
DRUG_GENES, MECHANISM_GENES, PROGRAMME_SD = 100, 100, 0.5
WEAKEST_DRUG, STRONGEST_DRUG = 0.01, 0.08

# A key sorts molecules by cell, then token: a token fills the lower 16 bits.
TOKEN_BITS = 16
_MODEL, _CELLS = 0, 1

Integers = npt.NDArray[np.int64]
Tokens = npt.NDArray[np.uint16]
Keys = npt.NDArray[np.uint32]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Effect:
    """What one line, plate or drug does to the genes it touches.

    `log2_fold_changes` compare a gene's share of a cell's molecules with its share in the base profile, when
    nothing else touches the gene. Where a plate or drug meets a line's own effect, the change is another.
    """

    kind: str
    index: int
    genes: Integers
    log2_fold_changes: Floats


@dataclass(frozen=True)
class Cells:
    """Simulated cells as rows of a sparse matrix, each beginning with the marker.

    `offsets` (n + 1) delimit the cells in `tokens` and `values`; `lines` and `wells` (n) are indices from 0.
    """

    offsets: npt.NDArray[np.int32]
    tokens: Integers
    values: npt.NDArray[np.float32]
    lines: Integers
    wells: Integers


class Simulation:
    """The screen that a seed gives; every method is a pure function of the seed and its arguments.

    Args:
        seed: at least 0.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        rng = np.random.default_rng([seed, _MODEL])
        self.base = _base_profile(rng)
        self.effects: list[Effect] = []
        self.drug_shares = np.zeros(WELLS)
        self.drug_shares[VEHICLE_WELLS:] = rng.uniform(WEAKEST_DRUG, STRONGEST_DRUG, DRUGS)
        self.lines = [self._plant_line(rng, line) for line in range(LINES)]
        self.plates = [self._plant_plate(rng, plate) for plate in range(PLATES)]
        self.wells = [np.empty(0, np.uint16)] * VEHICLE_WELLS + self._plant_drugs(rng)

    def cells(self, plate: int, cells: int, *address: int) -> Cells:
        """Simulate cells of one plate, of all its lines and wells.

        Args:
            plate: index of the plate, from 0.
            cells: how many, at most 2**16.
            address: what tells these cells from others, such as shard and row group; seeds the draw.
        """
        rng = np.random.default_rng([self.seed, _CELLS, *address])
        lines, wells = rng.integers(0, LINES, cells), rng.integers(0, WELLS, cells)
        total = rng.lognormal(np.log(MEAN_MOLECULES) - DEPTH_SD**2 / 2, DEPTH_SD, cells).astype(np.int64) + 1
        of_drug = rng.binomial(total, self.drug_shares[wells])
        of_plate = rng.binomial(total - of_drug, PLATE_SHARE)
        keys = [
            *_draw(rng, self.lines, lines, total - of_drug - of_plate),
            *_draw(rng, self.plates, np.full(cells, plate), of_plate),
            *_draw(rng, self.wells, wells, of_drug),
            # The marker is sorted in as a molecule of its own: its token is below every gene's.
            (np.arange(cells, dtype=np.uint32) << TOKEN_BITS) | MARKER_TOKEN,
        ]
        return Cells(*_count(np.concatenate(keys)), lines, wells)

    def _plant_line(self, rng: np.random.Generator, line: int) -> Tokens:
        genes = self._touchable(rng, LINE_GENES)
        tickets = self.base.copy()
        changed = tickets[genes] * np.exp2(rng.normal(0, LINE_SD, LINE_GENES))
        # Together these genes keep their share, so that all others keep theirs.
        changed *= tickets[genes].sum() / changed.sum()
        tickets[genes] = np.maximum(1, np.rint(changed))
        fold_changes = (tickets[genes] / tickets.sum()) / (self.base[genes] / self.base.sum())
        self.effects.append(Effect("cell_line_id", line, genes, np.log2(fold_changes)))
        return _tickets(tickets)

    def _plant_plate(self, rng: np.random.Generator, plate: int) -> Tokens:
        return self._plant_programme(rng, "plate", plate, self._touchable(rng, PLATE_GENES), PLATE_SHARE)

    def _plant_drugs(self, rng: np.random.Generator) -> list[Tokens]:
        shared = [self._touchable(rng, MECHANISM_GENES) for _ in range(MECHANISMS)]
        pools = []
        for drug, share in enumerate(self.drug_shares[VEHICLE_WELLS:]):
            own = self._touchable(rng, DRUG_GENES)
            genes = np.union1d(own, shared[drug % MECHANISMS])
            pools.append(self._plant_programme(rng, "drug", drug, genes, share))
        return pools

    def _plant_programme(
        self, rng: np.random.Generator, kind: str, index: int, genes: Integers, share: float
    ) -> Tokens:
        level = self.base[genes] * rng.lognormal(0, PROGRAMME_SD, len(genes))
        tickets = np.zeros(GENES, np.int64)
        tickets[genes] = np.maximum(1, np.rint(level / level.sum() * PROGRAMME_TICKETS))
        raised = (tickets[genes] / tickets.sum()) / (self.base[genes] / self.base.sum())
        self.effects.append(Effect(kind, index, genes, np.log2(1 - share + share * raised)))
        return _tickets(tickets)

    def _touchable(self, rng: np.random.Generator, genes: int) -> Integers:
        fit = np.flatnonzero((self.base >= FEWEST_TICKETS) & (self.base <= MOST_TICKETS))
        return np.sort(rng.choice(fit, genes, replace=False))


def _base_profile(rng: np.random.Generator) -> Integers:
    level = rng.lognormal(0, LEVEL_SD, GENES)
    level[rng.random(GENES) >= EXPRESSED_SHARE] *= SILENT_LEVEL
    expected = level / level.sum() * PROFILE_TICKETS
    tickets: Integers = np.floor(expected + rng.random(GENES)).astype(np.int64)
    return tickets


def _tickets(tickets: Integers) -> Tokens:
    return np.repeat(np.arange(FIRST_TOKEN, FIRST_TOKEN + GENES, dtype=np.uint16), tickets)


def _draw(
    rng: np.random.Generator, pools: Sequence[Tokens], pool_of_cell: Integers, molecules: Integers
) -> Iterator[Keys]:
    """Draw molecules for each cell from its pool; a pool at a time, so that its tickets stay in cache."""
    for pool in np.unique(pool_of_cell[molecules > 0]):
        cells = np.flatnonzero(pool_of_cell == pool)
        rows = np.repeat(cells.astype(np.uint32) << TOKEN_BITS, molecules[cells])
        yield rows | pools[pool][rng.integers(0, len(pools[pool]), len(rows))]


def _count(keys: Keys) -> tuple[npt.NDArray[np.int32], Integers, npt.NDArray[np.float32]]:
    """Offsets, tokens and values of the cells that molecules and markers, in any order, make up."""
    keys.sort()
    starts = np.concatenate([[0], np.flatnonzero(keys[1:] != keys[:-1]) + 1])
    tokens = (keys[starts] & (2**TOKEN_BITS - 1)).astype(np.int64)
    values = np.diff(starts, append=len(keys)).astype(np.float32)
    heads = np.flatnonzero(tokens == MARKER_TOKEN)
    values[heads] = MARKER_VALUE
    return np.append(heads, len(tokens)).astype(np.int32), tokens, values
