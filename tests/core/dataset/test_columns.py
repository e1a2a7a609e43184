from pathlib import Path

import pytest

from tasks.core.base.errors import SettingsError
from tasks.core.base.recipes import Recipe
from tasks.core.dataset.columns import NO_VALUE, check_columns, read_column
from tests.core.dataset.landed import land
from tests.small_dataset import cell, gene_table, table_of, write_dataset

DRUGS = ["ärger \u202e x", None, "a", "a", None, "b"]


def test_values_are_coded_partition_by_partition_and_nulls_are_a_value(tmp_path: Path) -> None:
    table = table_of([cell({3: 1.0}, drug=drug) for drug in DRUGS])
    folder = write_dataset(tmp_path / "d", [table], gene_table(5), group_rows=4)
    landed = land(folder, tmp_path / "s", partition_cells=4)
    column = read_column(landed.store, [part.cells for part in landed.counted], "drug")
    assert [column.values[code] for codes in column.codes for code in codes] == [drug or NO_VALUE for drug in DRUGS]
    assert [len(codes) for codes in column.codes] == [4, 2]
    assert dict(zip(column.values, column.counts.tolist(), strict=True)) == {NO_VALUE: 2, "a": 2, "b": 1, DRUGS[0]: 1}


@pytest.mark.parametrize("setting", ["batch", "compare"])
def test_a_column_that_is_not_there_is_named(dataset: Path, tmp_path: Path, setting: str) -> None:
    plan = land(dataset, tmp_path / "s").plan
    with pytest.raises(SettingsError, match=f"--{setting} dose: the cells have no such column; they have drug, plate"):
        check_columns(plan, Recipe.model_validate({setting: "dose"}))
