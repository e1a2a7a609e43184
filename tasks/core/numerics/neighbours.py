"""Weights of neighbours by distance, each point's own scale found so that the weights come to a given number."""

from collections.abc import Callable

import numpy as np

from tasks.core.numerics.block import Float64Array

_STEPS = 64
# Of the log of the rate, were the farthest neighbour at a distance of 1.
_BOUNDS = (-10.0, 30.0)


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
