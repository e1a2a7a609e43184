"""What batches add to the cells of soft clusters, and how uneven batches are among the clusters."""

import numpy as np

from tasks.core.numerics.block import Float64Array, IntArray
from tasks.core.numerics.soft_clusters import Masses, RidgeSums, to_length_1

_LEAST_SHARE = 1e-5


def ridge(
    sums: RidgeSums, cells_b: IntArray, alpha: float, centres_ck: Float64Array
) -> tuple[Float64Array, Float64Array]:
    """Regress the embedding on an intercept and the batch in each cluster, batches penalized by `alpha * expected`.

    The matrix of the normal equations is an arrowhead, solved here in closed form.

    Args:
        sums: sums over all cells.
        cells_b: cells of each batch.
        alpha: of the penalty.
        centres_ck: what stands for the centre of a cluster that has fewer than two batches.

    Returns:
        Intercepts at length 1, the new centres, and what each batch adds in each cluster, (b, c, k).
    """
    observed_bc = sums.masses.observed_bc
    kept_bc = observed_bc > _LEAST_SHARE * cells_b[:, None]
    kept_bc &= kept_bc.sum(axis=0) > 1
    penalty_bc = alpha * expected(observed_bc, cells_b)
    diagonal_bc = np.where(kept_bc, observed_bc + penalty_bc, 1.0)
    weight_bc = np.where(kept_bc, penalty_bc / diagonal_bc, 0.0)
    divisor_c = np.einsum("bc,bc->c", weight_bc, observed_bc)
    several_c = divisor_c > 0
    intercepts_ck = np.einsum("bc,bck->ck", weight_bc, sums.embedded_bck) / np.where(several_c, divisor_c, 1.0)[:, None]
    added_bck = (sums.embedded_bck - observed_bc[..., None] * intercepts_ck) / diagonal_bc[..., None]
    added_bck *= (kept_bc & several_c)[..., None]
    centres = np.where(several_c[:, None], to_length_1(intercepts_ck), centres_ck)
    return centres, added_bck


def expected(observed_bc: Float64Array, cells_b: IntArray) -> Float64Array:
    """Give the (b, c) masses that there would be if each cluster had the batches as all cells have them."""
    return np.outer(cells_b / cells_b.sum(), observed_bc.sum(axis=0))


def log_excess(masses: Masses, cells_b: IntArray) -> Float64Array:
    """Give the log of how much more there is of each batch in each cluster, (b, c), than is expected: near 0 if even.

    To both masses are added what is expected and one cell, as in Harmony 2, so that rare ones do not rule.
    """
    expected_bc = expected(masses.observed_bc, cells_b)
    return np.asarray(np.log((masses.observed_bc + expected_bc + 1.0) / (2.0 * expected_bc + 1.0)))
