"""The tables of samples, drugs and cell lines of a simulated dataset, in Tahoe's layout."""

from typing import Any

import pyarrow as pa

from tasks.core.dataset import simulation
from tasks.core.dataset.cells import VEHICLE
from tasks.core.dataset.simulated_tables import effect_name, mechanism, sample_name, treatments

# Of a plate, in turn: as in Tahoe, a plate nearly is a dose.
DOSES, UNIT = (0.05, 0.5, 5.0), "uM"
_ORGANS = ("Lung", "Bowel", "Skin", "Breast", "Pancreas")
_BROAD = ("inhibitor/antagonist", "activator/agonist", "unclear")
# Not simulated: of these a table has the column alone.
_MEANS = ("mean_gene_count", "mean_tscp_count", "mean_mread_count", "mean_pcnt_mito")


def sample_metadata() -> pa.Table:
    """One row a well: `sample`, `plate`, `drug`, and its dose in `drugname_drugconc`, a Python literal."""
    wells = [(plate, well) for plate in range(simulation.PLATES) for well in range(simulation.WELLS)]
    drugs = treatments()
    given = [(drugs[well], 0.0 if drugs[well] == VEHICLE else DOSES[plate % len(DOSES)]) for plate, well in wells]
    columns: dict[str, Any] = {
        "sample": [sample_name(plate, well) for plate, well in wells],
        "plate": [effect_name("plate", plate) for plate, _ in wells],
    }
    columns |= {name: pa.nulls(len(wells), pa.float64()) for name in _MEANS}
    columns["drug"] = [drug for drug, _ in given]
    columns["drugname_drugconc"] = [repr([(drug, dose, UNIT)]) for drug, dose in given]
    return pa.table(columns)


def drug_metadata() -> pa.Table:
    """One row a drug; the vehicle is none."""
    drugs = range(simulation.DRUGS)
    columns: dict[str, Any] = {
        "drug": [effect_name("drug", drug) for drug in drugs],
        "targets": [
            None if drug % 4 == 0 else f"simulated target {drug % simulation.MECHANISMS + 1}" for drug in drugs
        ],
        "moa-broad": [_BROAD[drug % simulation.MECHANISMS % len(_BROAD)] for drug in drugs],
        "moa-fine": [mechanism(drug) for drug in drugs],
        "human-approved": ["no" if drug % 3 == 0 else "yes" for drug in drugs],
        "clinical-trials": ["no" if drug % 9 == 0 else "yes" for drug in drugs],
    }
    columns |= {name: pa.nulls(len(drugs), pa.string()) for name in ("gpt-notes-approval", "canonical_smiles")}
    columns["pubchem_cid"] = pa.nulls(len(drugs), pa.float64())
    return pa.table(columns)


def cell_line_metadata() -> pa.Table:
    """One row a line and mutation, one to three a line; no mutation does anything to a cell."""
    rows = [(line, mutation) for line in range(simulation.LINES) for mutation in range(line % 3 + 1)]
    columns: dict[str, Any] = {
        "cell_name": [f"Simulated line {line + 1:02d}" for line, _ in rows],
        "Cell_ID_DepMap": [f"SIM-{line + 1:06d}" for line, _ in rows],
        "Cell_ID_Cellosaur": [effect_name("cell_line_id", line) for line, _ in rows],
        "Organ": [_ORGANS[line % len(_ORGANS)] for line, _ in rows],
        "Driver_Gene_Symbol": [f"SIMD{mutation + 1}" for _, mutation in rows],
        "Driver_VarZyg": ["Het" if mutation else "Hom" for _, mutation in rows],
        "Driver_VarType": ["Missense" if mutation else "Deletion" for _, mutation in rows],
        "Driver_ProtEffect_or_CdnaEffect": [f"p.S{line + 1}M" if mutation else "DEL" for line, mutation in rows],
        "Driver_Mech_InferDM": ["GoF" if mutation else "LoF" for _, mutation in rows],
        "Driver_GeneType_DM": ["Oncogene" if mutation else "Suppressor" for _, mutation in rows],
    }
    return pa.table(columns)
