"""Nearest neighbours, and what each counts by its distance."""

from collections.abc import Callable

import numpy as np
from threadpoolctl import threadpool_limits

from tasks.core.numerics.block import Float64Array, IntArray, NumberArray

_STEPS = 64
# Of the log of the rate, were the farthest neighbour at a distance of 1.
_BOUNDS = (-10.0, 30.0)


def nearest(z_nk: NumberArray | None, among_mk: NumberArray, number: int) -> tuple[IntArray, Float64Array]:
    """Find so many nearest points among others, or of each of these itself, and the distances: (n, j), ascending."""
    from sklearn.neighbors import NearestNeighbors  # noqa: PLC0415  (what only complains should not wait for it)

    found = NearestNeighbors(n_neighbors=number, algorithm="brute").fit(among_mk.astype(np.float64))
    # Each thread of a fold would start as many of OpenMP's as there are cores.
    with threadpool_limits(limits=1, user_api="openmp"):
        distances, indices = found.kneighbors(None if z_nk is None else z_nk.astype(np.float64))
    return indices, distances


def shares(distances_nj: Float64Array) -> Float64Array:
    """Weigh neighbours by the inverse square of their distances, ascending, to a sum of 1; one at no distance has all.

    Several at none share alike.
    """
    least_n1 = 1e-6 * np.maximum(distances_nj[:, -1:], 1e-12)
    weights_nj = 1.0 / np.maximum(distances_nj, least_n1) ** 2
    return np.asarray(weights_nj / weights_nj.sum(axis=1, keepdims=True))


def scaled_to(
    target: float, of_weights: Callable[[Float64Array], Float64Array], distances_nj: Float64Array
) -> Float64Array:
    """Find weights `exp(-distance * rate)`, a rate for each point, so that `of_weights` of them is the target.

    Args:
        target: what to come to.
        of_weights: a number for each row of weights, that falls as the rate grows.
        distances_nj: of each point to its neighbours; the least of each should be 0, lest all weights vanish.

    Returns:
        (n, j) weights; those of a rate at the bounds where the target is out of reach.
    """
    farthest_n = distances_nj.max(axis=1)
    unit_n = np.log(np.where(farthest_n > 0, farthest_n, 1.0))
    low_n, high_n = _BOUNDS[0] - unit_n, _BOUNDS[1] - unit_n
    for _ in range(_STEPS):
        middle_n = (low_n + high_n) / 2
        too_high_n = of_weights(_weights(distances_nj, middle_n)) < target
        high_n = np.where(too_high_n, middle_n, high_n)
        low_n = np.where(too_high_n, low_n, middle_n)
    return _weights(distances_nj, low_n)


def perplexity(weights_nj: Float64Array) -> Float64Array:
    """(n,) exponential of the entropy of each row: how many neighbours count, were they to count alike."""
    shares_nj = weights_nj / weights_nj.sum(axis=1, keepdims=True)
    logs_nj = np.log(shares_nj, out=np.zeros_like(shares_nj), where=shares_nj > 0)
    return np.asarray(np.exp(-(shares_nj * logs_nj).sum(axis=1)))


def _weights(distances_nj: Float64Array, log_rate_n: Float64Array) -> Float64Array:
    return np.asarray(np.exp(-distances_nj * np.exp(log_rate_n)[:, None]))
