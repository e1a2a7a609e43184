"""Which cluster of one run is which of another: centres matched in a common basis, one to one."""

import numpy as np

from tasks.core.numerics.block import Float64Array, FloatArray

# Centres that are nearer to each other than this share of the longest are at one place: components are float32.
_ONE_PLACE = 1e-6


def change_basis(points_ck: Float64Array, from_gk: FloatArray, to_gl: FloatArray) -> Float64Array:
    """Express points, (c, k) in one orthonormal basis of gene space, in another: (c, l).

    What the other basis does not span is lost.
    """
    inner: Float64Array = from_gk.T.astype(np.float64) @ to_gl.astype(np.float64)
    return points_ck @ inner


def match(before_ck: Float64Array, now_dk: Float64Array) -> dict[int, int]:
    """Tell which centre of before each centre of now continues.

    A centre may continue one of before if it is nearer to it than that one was to any at another place; of all ways to
    pair them, the one with the least sum of squared relative shifts (Kuhn 1955, scipy's `linear_sum_assignment`).

    Returns:
        For centres of now that continue one of before, its index.
    """
    # What only complains should not wait for them.
    from scipy.optimize import linear_sum_assignment  # noqa: PLC0415
    from scipy.spatial.distance import cdist  # noqa: PLC0415

    shifts_dc = cdist(now_dk, before_ck) / _gaps(before_ck)
    now, before = linear_sum_assignment(np.minimum(shifts_dc, 1.0) ** 2)
    return {int(d): int(c) for d, c in zip(now, before, strict=True) if shifts_dc[d, c] < 1.0}


def relative_shifts(before_ck: Float64Array, now_ck: Float64Array) -> Float64Array:
    """(c,) how far each centre moved, as a share of the way from where it was to the nearest at another place."""
    moved = np.linalg.norm(now_ck - before_ck, axis=1)
    return np.asarray(moved / _gaps(before_ck))


def names_after(names: tuple[int, ...], named: int, continued: dict[int, int], clusters: int) -> tuple[int, ...]:
    """Name of each cluster: that of the one it continues, or the next that no cluster ever had.

    Args:
        names: of the clusters before.
        named: names given so far.
        continued: for clusters that continue one of before, its index.
        clusters: how many there are now.
    """
    fresh = iter(range(named, named + clusters))
    return tuple(names[continued[at]] if at in continued else next(fresh) for at in range(clusters))


def _gaps(centres_ck: Float64Array) -> Float64Array:
    """(c,) the way from each centre to the nearest at another place; infinite where all are at one."""
    from scipy.spatial.distance import cdist  # noqa: PLC0415

    apart = cdist(centres_ck, centres_ck)
    apart[apart <= _ONE_PLACE * np.linalg.norm(centres_ck, axis=1).max()] = np.inf
    return np.asarray(apart.min(axis=1))
