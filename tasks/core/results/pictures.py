"""The pictures among a run's results: `scree.png` and `embedding.png`."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from tasks.core.references.model import Labels, Model

SCREE, EMBEDDING = "scree.png", "embedding.png"
# More would hide each other.
_MOST_CELLS = 4_000
_MOST_COMPONENTS = 4


class CellSample:
    """Some cells out of tables that pass by, the same ones each time.

    Args:
        cells: of all tables together.
        components: columns `pc1` ... of the tables.
    """

    def __init__(self, cells: int, components: int) -> None:
        chosen = np.random.default_rng(cells).choice(cells, min(cells, _MOST_CELLS), replace=False)
        self._rows = np.sort(chosen)
        self._names = [f"pc{number}" for number in range(1, min(components, _MOST_COMPONENTS) + 1)]
        self._taken: list[pa.Table] = []

    def of(self, tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
        """Give the tables on, and keep the chosen rows of each."""
        start = 0
        for table in tables:
            within = self._rows[(self._rows >= start) & (self._rows < start + table.num_rows)] - start
            self._taken.append(table.select([*self._names, "cluster"]).take(within))
            start += table.num_rows
            yield table

    def write_embedding(self, model: Model, clustering: Labels, folder: Path) -> None:
        """Draw the cells in the first components, coloured by cluster."""
        from tasks.core.results import plots  # noqa: PLC0415  (only a run that gets here draws)

        taken = pa.concat_tables(self._taken)
        points = np.column_stack([taken.column(name).to_numpy() for name in self._names])
        sizes = dict(zip(clustering.names, clustering.sizes, strict=True))
        labels = taken.column("cluster").to_numpy()
        picture = plots.embedding(points, labels, sizes, model.explained_variance_ratio)
        (folder / EMBEDDING).write_bytes(picture)


def write_scree(model: Model, folder: Path) -> None:
    """Draw what each component explains, and how right it is."""
    from tasks.core.results import plots  # noqa: PLC0415

    ratios, residuals = np.array(model.explained_variance_ratio), np.array(model.residuals)
    (folder / SCREE).write_bytes(plots.scree(ratios, residuals, np.array(model.settled)))
