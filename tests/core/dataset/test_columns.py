from pathlib import Path

import cloudpickle
import numpy as np
import pytest

from tasks.core.base.errors import SettingsError
from tasks.core.base.recipes import Recipe
from tasks.core.dataset.columns import NO_VALUE, check_columns, read_column
from tasks.core.dataset.stored_blocks import by_block
from tests.core.dataset.landed import land
from tests.small_dataset import cell, gene_table, table_of, write_dataset

DRUGS = ["ärger \u202e x", None, "a", "a", None, "b"]


def test_values_are_coded_partition_by_partition_and_nulls_are_a_value(tmp_path: Path) -> None:
    table = table_of([cell({3: 1.0}, drug=drug) for drug in DRUGS])
    landed = land(
        write_dataset(tmp_path / "d", [table], gene_table(5), group_rows=4), tmp_path / "s", partition_cells=4
    )
    column = read_column(landed.store, [part.cells for part in landed.counted], "drug", 1)
    codes = [column.codes.read(source) for source in column.codes.sources]
    assert [column.values[code] for of_part in codes for code in of_part] == [drug or NO_VALUE for drug in DRUGS]
    assert [len(of_part) for of_part in codes] == [4, 2]
    assert dict(zip(column.values, column.counts, strict=True)) == {NO_VALUE: 2, "a": 2, "b": 1, DRUGS[0]: 1}


def test_what_reads_a_partition_takes_no_other_along_to_another_process(tmp_path: Path) -> None:
    table = table_of([cell({3: 1.0}, drug=f"drug{at % 2}") for at in range(60)])
    dataset = write_dataset(tmp_path / "d", [table], gene_table(5), group_rows=1)
    sizes = []
    for partition_cells in (1, 60):
        landed = land(dataset, tmp_path / "s", partition_cells=partition_cells)
        codes = read_column(landed.store, [part.cells for part in landed.counted], "drug", 1).codes
        by_blocks = by_block([part.counts for part in landed.counted], codes)
        sizes.append([len(cloudpickle.dumps(blocks.read)) for blocks in (codes, by_blocks)])
    np.testing.assert_allclose(sizes[0], sizes[1], rtol=0.1)


@pytest.mark.parametrize("setting", ["batch", "compare"])
def test_a_column_that_is_not_there_is_named(dataset: Path, tmp_path: Path, setting: str) -> None:
    plan = land(dataset, tmp_path / "s").plan
    with pytest.raises(SettingsError, match=f"--{setting} dose: the cells have no such column; they have drug, plate"):
        check_columns(plan, Recipe.model_validate({setting: "dose"}))
