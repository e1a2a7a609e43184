"""The dataset's own tables joined to cells: Tahoe's real ones with their traps, and those of simulated cells."""

import shutil
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.core.base.errors import SettingsError, SourceError
from tasks.core.base.settings import Settings
from tasks.core.dataset.doses import parse_doses
from tasks.core.dataset.joins import join, read_sides, unmatched
from tasks.core.dataset.landing import land_cells
from tasks.core.dataset.place import Place
from tasks.core.dataset.plan import make_plan
from tasks.core.dataset.synthetic import write_dataset as simulate
from tasks.core.numerics.block import decode_table
from tasks.core.references.cells import Cells, Plan
from tasks.core.storage.store import store_of
from tests.conftest import REAL_CELLS
from tests.small_dataset import cell, gene_table, table_of, write_dataset

CELL_COLUMNS = ("drug", "sample", "cell_line_id", "moa-fine", "plate")
JOINED = ("dose", "dose_unit", "targets", "moa-broad", "human-approved", "clinical-trials")
OF_LINES = ("cell_name", "Organ", "drivers")


@pytest.fixture
def tahoe(tmp_path: Path) -> Path:
    """A folder with Tahoe's own tables."""
    tables = REAL_CELLS / "tahoe-metadata"
    if not tables.is_dir():
        pytest.skip("Tahoe's tables are not at hand")
    (tmp_path / "tahoe" / "metadata").mkdir(parents=True)
    for table in tables.glob("*.parquet"):
        shutil.copyfile(table, tmp_path / "tahoe" / "metadata" / table.name)
    return tmp_path / "tahoe"


def as_cells(*rows: tuple[str | None, str | None, str | None]) -> pa.Table:
    drugs, samples, lines = zip(*rows, strict=True)
    return pa.table({"drug": drugs, "sample": samples, "cell_line_id": lines})


def test_every_sample_of_tahoe_has_its_dose_and_every_drug_its_row(tahoe: Path) -> None:
    sides, notes = read_sides(Place(str(tahoe)), CELL_COLUMNS)
    assert notes == ()
    samples = pq.read_table(tahoe / "metadata" / "sample_metadata.parquet", columns=["sample", "drug", "plate"])
    cells = samples.append_column("cell_line_id", pa.array(["CVCL_0023"] * len(samples)))
    assert unmatched(cells, sides) == {}
    told = pl.DataFrame(pl.from_arrow(join(cells, sides)))
    assert told.columns == ["sample", "drug", "plate", "cell_line_id", *JOINED, *OF_LINES]
    assert told["drug"].to_list() == samples["drug"].to_pylist()
    assert set(told["dose"]) == {0.0, 0.05, 0.5, 5.0}
    assert set(told["dose_unit"]) == {"uM"}
    vehicle = pl.col("drug") == "DMSO_TF"
    assert told.filter(vehicle)["moa-broad"].null_count() == told.filter(vehicle).height == 28
    assert set(told.filter(vehicle)["dose"]) == {0.0}
    assert told.filter(~vehicle)["moa-broad"].null_count() == 0
    spaced = told.filter(pl.col("drug").str.ends_with(" "))
    assert set(spaced["drug"]) == {"Erdafitinib ", "Selinexor "}
    assert set(spaced["targets"].drop_nulls()) == {"FGFR1, FGFR2, FGFR3, FGFR4", "XPO1"}
    assert told.filter(pl.col("drug") == "Trametinib (DMSO_TF solvate)")["moa-broad"][0] == "inhibitor/antagonist"


def test_a_line_is_one_row_with_its_mutations_as_text(tahoe: Path) -> None:
    sides, _ = read_sides(Place(str(tahoe)), CELL_COLUMNS)
    (lines,) = [side.table for side in sides if side.on == "cell_line_id"]
    assert lines.num_rows == 102
    a549 = join(as_cells(("DMSO_TF", None, "CVCL_0023")), sides).to_pylist()[0]
    assert (a549["cell_name"], a549["Organ"], a549["dose"]) == ("A549", "Lung", None)
    assert a549["drivers"].startswith("CDKN2A DEL; CDKN2B DEL; KRAS p.G12S; ")
    assert len(a549["drivers"].split("; ")) == len(set(a549["drivers"].split("; "))) > 3


def test_keys_that_match_nothing_leave_nulls_and_are_counted(tahoe: Path) -> None:
    sides, _ = read_sides(Place(str(tahoe)), CELL_COLUMNS)
    cells = as_cells((" Bortezomib", "smp_1495 ", "CVCL_0023"), ("Bortezomab", "smp_0", None), (None, None, "CVCL_X"))
    told = join(cells, sides).to_pylist()
    assert [row["targets"] for row in told] == ["PSMB5", None, None]
    assert [row["dose"] for row in told] == [0.05, None, None]
    assert [row["Organ"] for row in told] == ["Lung", None, None]
    assert unmatched(cells, sides) == {"drug": 2, "sample": 2, "cell_line_id": 2}


@pytest.mark.parametrize(
    ("written", "dose", "unit"),
    [
        ("[('Infigratinib', 0.05, 'uM')]", 0.05, "uM"),
        ("[(\"5'-x (\\d)\", 5, 'nM')]", 5.0, "nM"),
        ("[('a', 0.05, 'uM'), ('b', 0.5, 'uM')]", None, None),
        ("[('a', 'high', 'uM')]", None, None),
        ("[('a', True, 'uM')]", None, None),
        ("[('a', 1e999, 'uM')]", None, None),
        ("[('a', -1.0, 'uM')]", None, None),
        ("[('a', 1" + "0" * 400 + ", 'uM')]", None, None),
        ("__import__('os').getcwd()", None, None),
        ("[('a', 0.05, 'uM'", None, None),
        ("(" * 900, None, None),
        ("[" + " " * 2_000 + "('a', 0.05, 'uM')]", None, None),
        ("\x00", None, None),
        ("", None, None),
        (None, None, None),
    ],
)
def test_doses_are_read_and_nothing_is_run(written: str | None, dose: float | None, unit: str | None) -> None:
    assert parse_doses([written]) == [(dose, unit)]


def with_tables(folder: Path, **tables: pa.Table) -> Path:
    cells = [cell({3: float(number + 1)}, drug=f"d{number % 3}", sample=f"s{number % 4}") for number in range(24)]
    for part in cells:
        part.metadata["dose_unit"] = "own"
    write_dataset(folder, [table_of(cells[:12]), table_of(cells[12:])], gene_table(10), group_rows=5)
    for name, table in tables.items():
        pq.write_table(table, folder / "metadata" / f"{name}.parquet")
    return folder


SAMPLES = pa.table(
    {
        "sample": ["s0", "s1", "s2 ", "s2"],
        "drugname_drugconc": ["[('x', 0.5, 'uM')]", "broken", "[('x', 5.0, 'uM')]", "[('x', 9.0, 'uM')]"],
    }
)
DRUGS = pa.table({"drug": ["d0", "d1"], "targets": [["A", "B"], None]})


def landed(folder: Path, **given: object) -> tuple[Plan, list[Cells], pl.DataFrame]:
    settings = Settings.model_validate(
        {"dataset": str(folder), "store": str(folder.parent / "store"), "samples": "all"} | given
    )
    plan = make_plan(settings)
    cells = [land_cells(part, plan.vocabulary, settings).result for part in plan.partitions]
    tables = [decode_table(store_of(settings).get(part.metadata)) for part in cells]
    return plan, cells, pl.DataFrame(pl.from_arrow(pa.concat_tables(tables)))


def test_joined_columns_are_landed_and_can_be_chosen_by(tmp_path: Path) -> None:
    folder = with_tables(tmp_path / "data", sample_metadata=SAMPLES, drug_metadata=DRUGS)
    plan, cells, metadata = landed(folder, join=True)
    assert plan.columns == ("drug", "plate", "sample", "dose_unit", "dose", "targets")
    assert tuple(metadata.columns) == plan.columns
    assert metadata["dose"].to_list() == [0.5, None, 5.0, None] * 6
    assert metadata["dose_unit"].unique().to_list() == ["own"]
    assert metadata["targets"].to_list() == ["A, B", None, None] * 8
    assert [part.unmatched for part in cells] == [{"sample": 3, "drug": 4}] * 2
    notes = "; ".join(plan.notes)
    assert "1 of 4 samples have a drugname_drugconc without one dose" in notes
    assert "the cells' own dose_unit are kept" in notes
    assert "sample_metadata names 1 keys again" in notes
    assert "no table cell_line_metadata" in notes
    chosen = landed(folder, join=True, where="dose > 1 and targets is not null")[2]
    assert chosen.equals(metadata.filter((pl.col("dose") > 1) & pl.col("targets").is_not_null()))
    per = landed(folder, join=True, per="dose", at_most=2, sampling="spread")[2]
    assert sorted(per["dose"].to_list(), key=str) == [0.5, 0.5, 5.0, 5.0, None, None]


def test_without_the_setting_the_tables_are_not_looked_at(tmp_path: Path) -> None:
    folder = with_tables(tmp_path / "data", sample_metadata=SAMPLES)
    plan, _, metadata = landed(folder)
    assert plan.columns == tuple(metadata.columns) == ("drug", "plate", "sample", "dose_unit")
    with pytest.raises(SettingsError, match="there is no column 'dose'"):
        landed(folder, where="dose > 1")


def test_other_tables_make_other_cells(tmp_path: Path) -> None:
    folder = with_tables(tmp_path / "data", drug_metadata=DRUGS)
    (before, *_), (plain, *_) = landed(folder, join=True)[1], landed(folder)[1]
    other = DRUGS.set_column(1, "targets", pa.array(["C", "D"]))
    pq.write_table(other, folder / "metadata" / "drug_metadata.parquet")
    assert len({before.key, plain.key, landed(folder, join=True)[1][0].key}) == 3


def test_what_cannot_be_joined_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        SettingsError, match=r"--join: .* has nothing to join: the dataset has no table sample_metadata"
    ):
        landed(with_tables(tmp_path / "none"), join=True)
    with pytest.raises(SettingsError, match="the cells have no column cell_line_id or cell_line to join"):
        landed(with_tables(tmp_path / "keyless", cell_line_metadata=DRUGS), join=True)
    with pytest.raises(SourceError, match="table sample_metadata has no column 'sample'; it has drug, targets"):
        landed(with_tables(tmp_path / "wrong", sample_metadata=DRUGS), join=True)


def test_simulated_cells_have_tables_to_join(tmp_path: Path) -> None:
    folder = simulate(tmp_path / "simulated", 5_000, 3)
    plan, cells, metadata = landed(folder, join=True, where="dose == 0.05 and Organ == 'Lung'", samples=300)
    assert plan.notes == ()
    assert len(metadata) == 300
    assert [part.unmatched for part in cells] == [{}]
    assert set(metadata["moa-broad"]) == {"inhibitor/antagonist", "activator/agonist", "unclear"}
    assert metadata["drivers"].null_count() == 0
