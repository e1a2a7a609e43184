"""Cells of several batches, real and simulated, in our blocks and as scanpy takes them."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow.parquet as pq
import scipy.sparse as sp

from tasks.core.numerics.block import Block
from tasks.core.numerics.normalize import normalize
from tests.exact import read_counts


@dataclass(frozen=True)
class BatchedCells:
    """Counts of cells, (cells, genes), and the name of each cell's batch."""

    counts: sp.csr_array
    batches: list[str]

    @classmethod
    def read(cls, dataset: Path) -> Self:
        plates = [name for path in sorted((dataset / "data").iterdir()) for name in _column(path, "plate")]
        return cls(read_counts(dataset, len(plates)).astype(np.uint16), plates)

    @classmethod
    def simulated(cls, cells: int = 600, genes: int = 800, batches: int = 3, seed: int = 0) -> Self:
        """Genes from rare to common, some of them in some batches only, in cells of four kinds."""
        rng = np.random.default_rng(seed)
        batch_of_cell = rng.integers(batches, size=cells)
        means = np.geomspace(0.01, 30, genes)[rng.permutation(genes)]
        kinds = rng.gamma(rng.gamma(1.0, 3.0, genes) + 0.3, size=(4, genes))
        seen = rng.random((batches, genes)) < 0.9
        rates = means * kinds[rng.integers(4, size=cells)] * seen[batch_of_cell] * rng.gamma(4, 0.25, (cells, 1))
        counts = sp.csr_array(rng.poisson(rates).astype(np.uint16))
        return cls(counts, [f"batch {number}" for number in batch_of_cell])

    @property
    def genes(self) -> int:
        return int(self.counts.shape[1])

    @property
    def raw(self) -> Block:
        return Block(self.counts.indptr, self.counts.indices, self.counts.data)

    @property
    def normalized(self) -> Block:
        return normalize(self.raw)

    def scanpys(self, block: Block) -> Any:
        """AnnData of these cells with the block's values."""
        from anndata import AnnData  # noqa: PLC0415  (slow, and few tests need it)

        matrix = sp.csr_matrix(block.matrix(self.genes).astype(np.float32))
        # In the order of names scanpy breaks ties.
        names = [f"{gene:05}" for gene in range(self.genes)]
        annotated = AnnData(matrix, obs={"batch": self.batches}, var={"gene": names})
        annotated.obs_names = [str(cell) for cell in range(len(self.batches))]
        annotated.var_names = names
        return annotated


def pieces(block: Block, codes: np.ndarray, size: int) -> Iterator[tuple[Block, np.ndarray]]:
    """The block cut after each so many cells, with the codes of each piece."""
    for start in range(0, block.cells, size):
        stop = min(start + size, block.cells)
        yield block.cut(start, stop), codes[start:stop]


@contextmanager
def scanpy() -> Iterator[Any]:
    """The library, deaf to what pandas tells it and anndata of its own next version."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"(scanpy|anndata)\.")
        import scanpy as library  # noqa: PLC0415  (slow, and few tests need it)

        yield library


def _column(path: Path, name: str) -> list[str]:
    values: list[str] = pq.read_table(path, columns=[name])[name].to_pylist()
    return values
