"""Leading singular vectors of a tall sparse matrix, seen only through products with its Gram matrix.

Block Lanczos with full orthogonalization: each pass over the data multiplies the newest block of an orthonormal basis
by `A = X^T X`, and a Rayleigh-Ritz step on the whole basis gives singular values, vectors and, for free, the residual
`||A v - s^2 v||` of each. With a residual `r` relative to `s^2`, `s` is off by at most `r / 2` of itself and usually
by about `r^2`, and `v` by an angle of at most `r` over the relative gap to the next `s^2`.

After Golub & Underwood (1977), "The block Lanczos method for computing eigenvalues", Musco & Musco (2015), "Randomized
block Krylov methods for stronger and faster approximate singular value decomposition", and Wu & Simon (2000),
"Thick-restart Lanczos method for large symmetric eigenvalue problems".
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.linalg as la

from tasks.core.base.errors import NumericsError
from tasks.core.numerics.block import Float32Array, Float64Array, FloatArray

Gram = Callable[[Float32Array], Float64Array]
"""Gives `X^T (X Q)`, of shape (genes, width), for a panel `Q` of the same shape."""

# Directions this small beside the largest are rounding, not data.
_NEGLIGIBLE = 1e-13
# Panels go through float32, and it is squares that are found, right to a few units of its precision beside the first:
# a singular value this small beside the first may be nothing but rounding.
RESOLUTION = 2.0 * float(np.sqrt(np.finfo(np.float32).eps))
# Share of a random block that a power step leaves in.
_STAYS = 1e-6
# Columns that products take at a time, and how many times that is read for in one pass unless passes are few.
SLAB, _MOST_SLABS = 16, 4
# Columns the basis may always have before it is restarted.
_LEAST_ROOM = 240


def block_width(components: int, passes: int) -> int:
    """Columns that a pass adds to the basis, so that as many passes as there may be come to all components."""
    # A narrow block makes more passes but fewer columns in all. Of 50 components, two slabs took 0.6 to 0.7 times the
    # passes of one and 1.2 to 1.5 times the columns; to read and decode a block takes as long as a slab and a half.
    # Whole slabs: a part of one costs as much.
    slabs = max(min(components // 20, _MOST_SLABS), -(-components // (passes * SLAB)), 1)
    return slabs * SLAB


@dataclass(frozen=True)
class RitzPairs:
    """Approximate leading singular values and how far each is settled.

    Attributes:
        values: (k,) singular values, descending.
        residuals: (k,) `||A v - s^2 v|| / s^2`; 0 where `s` is 0.
        coordinates: (basis, k) the singular vectors in the Krylov basis.
    """

    values: Float64Array
    residuals: Float64Array
    coordinates: Float64Array


class BlockKrylov:
    """An orthonormal Krylov basis that grows by one block a pass.

    Args:
        genes: columns of the matrix.
        components: singular triplets wanted, `k`.
        rng: draws the first block.
        most_passes: that will be made; the fewer, the wider the blocks.

    Attributes:
        passes: products with the Gram matrix so far.
        basis: orthonormal blocks, each of shape (genes, width).
        coefficients: the Gram matrix in the basis.
        following: the block that the next pass will multiply.
        coupling: of the following block with the newest; residuals come from it.
    """

    def __init__(self, genes: int, components: int, rng: np.random.Generator, most_passes: int) -> None:
        self.genes = genes
        self.components = components
        self.width = min(genes, block_width(components, most_passes))
        self.most_columns = max(_LEAST_ROOM, 6 * components)
        self.passes = 0
        self.basis: list[FloatArray] = []
        self.coefficients = np.zeros((0, 0))
        self.following: FloatArray = _orthonormalized(rng.standard_normal((genes, self.width)))
        self.coupling: FloatArray = np.zeros((0, 0))

    @property
    def is_complete(self) -> bool:
        """Whether the basis spans all that the matrix maps to; further passes would find nothing."""
        return self.following.size == 0

    def start_near(self, v_gk: FloatArray) -> None:
        """Begin with mixtures of vectors that are near the leading ones, such as those of a matrix with fewer rows.

        What was random stays in a little, for directions that the vectors lack.
        """
        mixtures = v_gk @ (v_gk.T @ self.following)
        share = _STAYS * float(np.linalg.norm(mixtures))
        self.following = _orthonormalized(mixtures + share * self.following)

    def turn(self, gram: Gram) -> None:
        """Turn the first block towards the leading vectors of a matrix like the one whose vectors are wanted.

        A power step, cheap if it sees a sample of the rows. What was random stays in a little, for directions that
        the sample lacks.
        """
        product = gram(self.following.astype(np.float32, order="C"))
        product += _STAYS * np.linalg.norm(product) * self.following
        self.following = _orthonormalized(product)

    def advance(self, gram: Gram) -> None:
        """Make one pass: multiply the newest block, extend the coefficients and find the next block.

        Raises:
            NumericsError: the product is not finite.
        """
        if len(self.coefficients) + self.following.shape[1] > self.most_columns:
            self._restart()
        block = self.following
        product = gram(block.astype(np.float32, order="C"))
        if not np.isfinite(product).all():
            raise NumericsError("the matrix holds values that are not finite, or too large to square")
        self.passes += 1
        self.basis.append(block)
        self._extend(block.shape[1], self._project_out(product))
        self.following, self.coupling = self._orthonormal(product)

    def ritz(self) -> RitzPairs:
        """Best singular values in the basis so far (at most as many as it has columns) and their residuals."""
        wanted = min(self.components, len(self.coefficients))
        if wanted == 0:
            return RitzPairs(np.zeros(0), np.zeros(0), np.zeros((0, 0)))
        eigenvalues, vectors = la.eigh(self.coefficients)
        leading = slice(None, -wanted - 1, -1)
        squares, coordinates = np.maximum(eigenvalues[leading], 0.0), vectors[:, leading]
        last = coordinates[len(coordinates) - self.coupling.shape[1] :]
        norms = np.linalg.norm(self.coupling @ last, axis=0)
        residuals = np.divide(norms, squares, out=np.zeros_like(norms), where=squares > 0)
        return RitzPairs(np.sqrt(squares), residuals, coordinates)

    def vectors(self, coordinates: Float64Array) -> Float64Array:
        """(genes, k) vectors from their coordinates in the basis."""
        result = np.zeros((self.genes, coordinates.shape[1]))
        start = 0
        for block in self.basis:
            stop = start + block.shape[1]
            result += block @ coordinates[start:stop]
            start = stop
        return result

    def _restart(self) -> None:
        """Keep the part of the basis that matters most, so that memory is bounded however many passes it takes."""
        eigenvalues, vectors = la.eigh(self.coefficients)
        kept = self.components + self.width
        self.basis = [self.vectors(vectors[:, -kept:])]
        self.coefficients = np.diag(eigenvalues[-kept:])

    def _project_out(self, panel: Float64Array) -> Float64Array:
        """Make the panel orthogonal to the basis, in place; return what it had along it."""
        along = []
        for block in self.basis:
            inner = block.T @ panel
            panel -= block @ inner
            along.append(inner)
        return np.concatenate(along)

    def _extend(self, width: int, along: Float64Array) -> None:
        size = len(self.coefficients) + width
        grown = np.zeros((size, size))
        grown[:-width, :-width] = self.coefficients
        grown[:, -width:] = along
        grown[-width:, :] = along.T
        grown[-width:, -width:] = (along[-width:] + along[-width:].T) / 2
        self.coefficients = grown

    def _orthonormal(self, panel: Float64Array) -> tuple[FloatArray, FloatArray]:
        """Next block of the basis, and the (its width, last width) coupling to the block before."""
        room = self.genes - len(self.coefficients)
        left, sizes, right = la.svd(panel, full_matrices=False, overwrite_a=True)
        scale = max(float(np.abs(self.coefficients).max()), np.finfo(float).tiny)
        kept = min(int((sizes > _NEGLIGIBLE * scale).sum()), room)
        block, coupling = left[:, :kept], np.ascontiguousarray(sizes[:kept, None] * right[:kept])
        if len(self.coefficients) + kept < self.components:
            # What the matrix maps to, as far as it is seen, has fewer directions: random ones may find others.
            more = min(self.width, room) - kept
            block = np.hstack([block, np.random.default_rng(self.passes).standard_normal((self.genes, more))])
            coupling = np.vstack([coupling, np.zeros((more, panel.shape[1]))])
        self._project_out(block)
        return _orthonormalized(block) if block.shape[1] else block, coupling


def _orthonormalized(panel: FloatArray) -> FloatArray:
    # In the layout that it has when it comes back from the store: another one gives other last bits.
    return np.ascontiguousarray(la.qr(panel, mode="economic")[0])
