"""How fast a machine is at what a run does, and how much room its results take."""

import json
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError

from tasks.core.base.errors import SettingsError, first_line
from tasks.core.storage.store import Reference

Number = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Rates(Reference):
    """Measured on one core, on simulated cells.

    Attributes:
        machine: that it was.
        cells: that it was measured on.
        pca_dim: components of the embedding at the time.
        clusters: of K-means at the time.
        nonzeros: of a cell.
        source_bytes: of a cell in the shards.
        prepared: share of the nonzeros that is left where genes are chosen.
        seconds: of one core, for each of what `UNITS` says.
        stored: bytes left in the store, by stage, for each nonzero.
        memory: most bytes that one worker held at once, by stage, beside what every process has.
        write_seconds: waiting until a byte is on the disk.
        parquet_metadata: bytes of a cell's metadata in the Parquet file.
        csv_metadata: the same in the CSV file.
        csv_number: bytes of a number there.
    """

    machine: str
    cells: int = Field(ge=1)
    pca_dim: int = Field(ge=1)
    clusters: int = Field(ge=1)
    nonzeros: Number
    source_bytes: Number
    prepared: Number
    seconds: dict[str, Number]
    stored: dict[str, Number]
    memory: dict[str, Number]
    write_seconds: Number
    parquet_metadata: Number
    csv_metadata: Number
    csv_number: Number

    def of(self, step: str) -> float:
        """Give the seconds of a step.

        Raises:
            SettingsError: it was not measured.
        """
        if step not in self.seconds:
            raise SettingsError(
                f"--plan_rates has no rate of '{step}' ({UNITS[step]}): it was measured for other settings; "
                "name a new file to measure again"
            )
        return self.seconds[step]


UNITS = {
    "simulation": "a cell",
    "streaming": "a nonzero",
    "matrix": "a nonzero",
    "normalization": "a nonzero",
    "quality": "a nonzero",
    "genes": "a nonzero",
    "preparation": "a nonzero",
    "reading": "a nonzero of a block, decoded",
    "product": "a nonzero and a column of the panel, both products",
    "sum": "an element of a panel, added up",
    "step": "a gene and a column of the panel, a pass",
    "embedding": "a nonzero and a component",
    "correction": "a cell, a component and a round",
    "harmony": "a run: the clusters that the correction starts from",
    "start": "a run: K-means on a sample",
    "clustering": "a cell and a component, a pass",
    "leiden": "a cell and a cell of the graph",
    "markers": "a nonzero",
    "map": "a run",
    "scores": "a run",
    "mixing": "a cell and a component, of each embedding",
    "table": "a cell: what one thread does of the export",
    "csv": "a cell: what polars does on all cores",
}


def read_rates(path: Path) -> Rates:
    """Read rates from a file of them, or from a plan that was written.

    Raises:
        SettingsError: the file cannot be read, or holds something else.
    """
    try:
        found = json.loads(path.read_bytes())
        return Rates.model_validate(found.get("rates", found))
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        where = ".".join(map(str, problem["loc"]))
        raise SettingsError(f"--plan_rates {path}: '{where}': {problem['msg']}") from error
    except (OSError, ValueError, AttributeError) as error:
        raise SettingsError(f"--plan_rates {path} holds no rates: {first_line(error)}") from error
