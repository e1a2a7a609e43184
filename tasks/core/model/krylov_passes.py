"""The Krylov basis on the store, pass by pass: a fit that was stopped goes on after its last whole pass.

A pass leaves only what it added, so all passes together take the room of one basis; they are removed once the fit
they lead to is there.
"""

from dataclasses import dataclass, field

import numpy as np

from tasks.core.numerics.block import decode_matrix, encode_matrix
from tasks.core.numerics.krylov import BlockKrylov
from tasks.core.storage.store import ObjectRef, Reference, StageKey, Store


class KrylovPass(Reference):
    """State of a Krylov basis after a pass; its blocks may be objects of earlier passes.

    Attributes:
        following: the block for the next pass; None when the basis is complete.
    """

    basis: tuple[ObjectRef, ...]
    coefficients: ObjectRef
    following: ObjectRef | None
    coupling: ObjectRef


@dataclass
class KrylovPasses:
    """The passes of one fit.

    Attributes:
        fit: key of the fit that the passes lead to.
        environments: in which passes were made that were found.
    """

    store: Store
    fit: StageKey
    environments: set[str] = field(default_factory=set, init=False)
    _last: KrylovPass | None = field(default=None, init=False)

    def restore(self, krylov: BlockKrylov) -> None:
        """Bring a new basis to where the last whole pass on the store had left it, if there is one."""
        while (found := self.store.find(self._key(krylov.passes + 1), KrylovPass)) is not None:
            krylov.passes += 1
            self._last = found.result
            self.environments |= found.environments
        if self._last is not None:
            krylov.basis = [self._read(ref) for ref in self._last.basis]
            krylov.coefficients = self._read(self._last.coefficients)
            krylov.following = self._read_following(krylov, self._last)
            krylov.coupling = self._read(self._last.coupling)

    def save(self, krylov: BlockKrylov) -> None:
        """Leave the basis as it is after its newest pass."""
        key = self._key(krylov.passes)
        self._last = KrylovPass(
            basis=self._basis(key, krylov),
            coefficients=self._put(key, "coefficients", krylov.coefficients),
            following=None if krylov.is_complete else self._put(key, "following", krylov.following),
            coupling=self._put(key, "coupling", krylov.coupling),
        )
        self.store.finish(key, self._last, self.environments)

    def remove(self, passes: int) -> None:
        """Remove the passes, from the last on, so that what is left is always whole."""
        for number in range(passes, 0, -1):
            self.store.remove(self._key(number).folder)

    def _basis(self, key: StageKey, krylov: BlockKrylov) -> tuple[ObjectRef, ...]:
        if self._last is None or self._last.following is None:
            return tuple(self._put(key, f"block-{at}", block) for at, block in enumerate(krylov.basis))
        # The newest block is what the pass before had left as the following one; those before it are known as well,
        # unless a restart has put one in their place.
        older = self._last.basis
        if len(krylov.basis) != len(older) + 1:
            older = (self._put(key, "restarted", krylov.basis[0]),)
        return (*older, self._last.following)

    def _key(self, number: int) -> StageKey:
        inputs = {"fit": self.fit.digest, "pass": number}
        return StageKey(stage="svd_pass", version=self.fit.version, inputs=inputs)

    def _read_following(self, krylov: BlockKrylov, last: KrylovPass) -> np.ndarray:
        return np.zeros((krylov.genes, 0)) if last.following is None else self._read(last.following)

    def _put(self, key: StageKey, name: str, matrix: np.ndarray) -> ObjectRef:
        return self.store.put(f"{key.folder}/{name}.arrow", encode_matrix(matrix), len(matrix))

    def _read(self, ref: ObjectRef) -> np.ndarray:
        return decode_matrix(self.store.get(ref))
