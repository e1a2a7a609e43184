"""Simulated cells, genes and effects as the tables of a dataset in Tahoe's layout."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tasks.core.dataset import simulation
from tasks.core.dataset.cells import EXPRESSIONS, GENES, VEHICLE
from tasks.core.dataset.simulation import Cells, Effect

MITOCHONDRIAL_GENES = 13
_LABELS = (
    "drug",
    "sample",
    "BARCODE_SUB_LIB_ID",
    "cell_line_id",
    "moa-fine",
    "canonical_smiles",
    "pubchem_cid",
    "plate",
)
_TYPES: dict[str, pa.DataType] = {
    GENES: pa.list_(pa.field("element", pa.int64())),
    EXPRESSIONS: pa.list_(pa.field("element", pa.float32())),
}
SCHEMA = pa.schema(_TYPES | dict.fromkeys(_LABELS, pa.string()))


def effect_name(kind: str, index: int) -> str:
    """Name of a line, plate or drug, as cells hold it in the column `kind`."""
    names = {
        "cell_line_id": f"SIM_LINE_{index + 1:02d}",
        "plate": f"plate{index + 1}",
        "drug": f"Simulated drug {index + 1:02d}",
    }
    return names[kind]


def expression_data(cells: Cells, plate: int, library: str) -> pa.Table:
    """Give cells of one plate as rows of `SCHEMA`; `library` and the row in it make each cell's barcode."""
    rows = len(cells.lines)
    columns = {
        GENES: _lists(cells, cells.tokens),
        EXPRESSIONS: _lists(cells, cells.values),
        "drug": np.array(treatments())[cells.wells],
        "sample": [sample_name(plate, well) for well in cells.wells.tolist()],
        "BARCODE_SUB_LIB_ID": [f"{library}:{row:03d}" for row in range(rows)],
        "cell_line_id": np.array(_names("cell_line_id", simulation.LINES))[cells.lines],
        "moa-fine": _mechanisms()[cells.wells],
        "canonical_smiles": [None] * rows,
        "pubchem_cid": [None] * rows,
        "plate": [effect_name("plate", plate)] * rows,
    }
    return pa.Table.from_pydict(columns, schema=SCHEMA)


def treatments() -> list[str]:
    """Give the drug of each well of a plate."""
    return [VEHICLE] * simulation.VEHICLE_WELLS + _names("drug", simulation.DRUGS)


def sample_name(plate: int, well: int) -> str:
    """Name of a well as its cells hold it; both count from 0."""
    return f"sim_{plate * simulation.WELLS + well + 1:04d}"


def mechanism(drug: int) -> str:
    """Name of a drug's mechanism."""
    return f"simulated mechanism {drug % simulation.MECHANISMS + 1}"


def gene_metadata(profile: simulation.Integers) -> pa.Table:
    """Make the vocabulary: `gene_symbol`, `ensembl_id`, `token_id`, in the order of the tokens.

    Args:
        profile: (genes,) how common each gene is. The most common ones, which no effect touches, count as
            mitochondrial: their symbols begin with MT-. As in Tahoe, some 3 % of a cell's molecules are of them.
    """
    numbers = range(1, simulation.GENES + 1)
    mitochondrial = set(np.argsort(-profile, kind="stable")[:MITOCHONDRIAL_GENES].tolist())
    columns: dict[str, Any] = {
        "gene_symbol": [f"{'MT-' if number - 1 in mitochondrial else ''}SIM{number}" for number in numbers],
        "ensembl_id": [f"SIMG{number:011d}" for number in numbers],
        "token_id": np.arange(simulation.GENES) + simulation.FIRST_TOKEN,
    }
    return pa.table(columns)


def planted_effects(effects: Sequence[Effect]) -> pa.Table:
    """List each effect on each gene: `kind`, `name`, `token_id`, `log2_fold_change`."""
    touched = [len(effect.genes) for effect in effects]
    columns: dict[str, Any] = {
        "kind": np.repeat([effect.kind for effect in effects], touched),
        "name": np.repeat([effect_name(effect.kind, effect.index) for effect in effects], touched),
        "token_id": np.concatenate([effect.genes for effect in effects]) + simulation.FIRST_TOKEN,
        "log2_fold_change": np.concatenate([effect.log2_fold_changes for effect in effects]),
    }
    return pa.table(columns)


def _names(kind: str, count: int) -> list[str]:
    return [effect_name(kind, index) for index in range(count)]


def _mechanisms() -> npt.NDArray[np.object_]:
    of_drugs = [mechanism(drug) for drug in range(simulation.DRUGS)]
    return np.array([None] * simulation.VEHICLE_WELLS + of_drugs, dtype=object)


def _lists(cells: Cells, items: npt.NDArray[Any]) -> "pa.Array[Any]":
    offsets: Any = pa.array(cells.offsets)
    return pa.ListArray.from_arrays(offsets, pa.array(items))
