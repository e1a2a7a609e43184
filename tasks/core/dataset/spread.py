"""Places spread evenly: which of many to take, in what order, and how many of each."""

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]
# Cells that a shard gives where there are enough of them, a quarter of one of Tahoe's row groups; but be they few, they
# come from at least so many shards, two for each of Tahoe's plates.
_CELLS_OF_A_SHARD, _FEWEST_SHARDS = 250, 28
_SPREAD = 1


def rng_of(seed: int, *place: int) -> np.random.Generator:
    """Random numbers for a place: a shard, a row group of one, or all of them."""
    return np.random.default_rng([seed, _SPREAD, *place])


def shards_for(cells: int, shards: int) -> int:
    """How many of the shards to take so many cells from."""
    return min(shards, max(_FEWEST_SHARDS, -(-cells // _CELLS_OF_A_SHARD)))


def evenly_spaced(many: int, few: int, offset: float) -> Integers:
    """So few of many places, in order and equally far from each other; the offset, from 0 to below 1, shifts them."""
    shift = min(int(offset * many), many - 1)
    return (np.arange(few, dtype=np.int64) * many + shift) // max(few, 1)


def even_order(many: int, offset: float) -> Integers:
    """All places in an order of which each beginning is spread evenly; the offset says which comes first."""
    places = np.arange(many)
    bits = max(many - 1, 1).bit_length()
    reversed_bits = sum(((places >> bit) & 1) << (bits - 1 - bit) for bit in range(bits))
    return (np.argsort(reversed_bits, kind="stable") + int(offset * many)) % many


def share_out(total: int, sizes: Integers) -> Integers:
    """Share a total out in proportion to sizes, by largest remainder; no share is above its size.

    Args:
        total: at most the sum of the sizes.
        sizes: not all 0.
    """
    exact = sizes.astype(object) * total
    whole = sum(sizes.tolist())
    shares = np.array([share // whole for share in exact], np.int64)
    rests = np.array([share % whole for share in exact], np.float64)
    most = np.argsort(-rests, kind="stable")[: total - int(shares.sum())]
    shares[most] += 1
    return shares


def draw_rows(rows: Integers, group_of: Integers, quota: int, rng: np.random.Generator) -> Integers:
    """Draw so many rows of a shard from as few of its row groups as that takes, the row groups evenly spaced.

    Args:
        rows: to draw from, in order.
        group_of: the row group of each.
        quota: how many.
        rng: says where the spacing begins, and which rows of a row group are drawn.
    """
    groups, sizes = np.unique(group_of, return_counts=True)
    offset = rng.random()
    few = -(-quota // int(sizes.max())) if quota else 0
    while sizes[chosen := evenly_spaced(len(groups), few, offset)].sum() < quota:
        few += 1
    drawn = [
        np.sort(rng.choice(rows[group_of == groups[at]], share, replace=False))
        for at, share in zip(chosen, share_out(quota, sizes[chosen]), strict=True)
    ]
    return np.concatenate(drawn)
