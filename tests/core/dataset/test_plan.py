from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.core.base.errors import DataError, SettingsError, SourceError, StoreError
from tasks.core.base.recipes import Recipe
from tasks.core.base.settings import Settings
from tasks.core.dataset.columns import check_columns
from tasks.core.dataset.plan import check_sizes, locate_dataset, make_plan
from tasks.core.dataset.source import stream_partition
from tasks.core.dataset.synthetic import VERSION as SIMULATION
from tasks.core.references.cells import Partition, Plan
from tests.small_dataset import gene_table, random_cells, table_of, write_dataset


def plan(dataset: Path, **settings: object) -> Plan:
    defaults = {"samples": "all", "pca_dim": 5, "clusters": 2, "partition_cells": 20, "store": str(dataset / "store")}
    return make_plan(Settings.model_validate(defaults | {"dataset": str(dataset)} | settings))


def rows(partitions: tuple[Partition, ...]) -> list[tuple[int, int, int]]:
    return [(int(part.shard_name[11:16]), part.start, part.stop) for part in partitions]


def read(partitions: tuple[Partition, ...]) -> pa.Table:
    return pa.concat_tables([table for part in partitions for _, table in stream_partition(part)])


def test_partitions_cover_each_row_once_in_stream_order(dataset: Path) -> None:
    assert rows(plan(dataset).partitions) == [(0, 0, 20), (0, 20, 30), (1, 0, 20), (1, 20, 30)]


@pytest.mark.parametrize("partition_cells", [1, 7, 10, 13, 25, 1000])
def test_partitions_give_the_dataset_whatever_their_size(dataset: Path, partition_cells: int) -> None:
    expected = pa.concat_tables([pq.read_table(path) for path in sorted((dataset / "data").iterdir())])
    assert read(plan(dataset, partition_cells=partition_cells).partitions).equals(expected)


@pytest.mark.parametrize("samples", [1, 9, 20, 21, 30, 31, 60])
def test_the_first_cells_are_read_whatever_their_number(dataset: Path, samples: int) -> None:
    expected = read(plan(dataset).partitions).slice(0, samples)
    made = plan(dataset, samples=max(samples, 6), clusters=1)
    assert read(made.partitions).slice(0, samples).equals(expected)
    assert made.cells == max(samples, 6)


def test_more_cells_keep_the_partitions_that_were_whole(dataset: Path) -> None:
    few, many = plan(dataset, samples=45).partitions, plan(dataset, samples=60).partitions
    assert few[:2] == many[:2]
    assert few[2].stop == 15


def test_a_dataset_that_ends_early_is_no_error(dataset: Path) -> None:
    made = plan(dataset, samples=1000)
    assert (made.cells, made.exhausted) == (60, True)
    assert not plan(dataset, samples=60).exhausted


def test_a_changed_shard_changes_its_partitions_alone(dataset: Path) -> None:
    before = plan(dataset)
    first = sorted((dataset / "data").iterdir())[0]
    pq.write_table(table_of(random_cells(30, 40, seed=9)), first, row_group_size=10)
    after = plan(dataset)
    changed = [old != new for old, new in zip(before.partitions, after.partitions, strict=True)]
    assert changed == [True, True, False, False]
    assert before.revision != after.revision


def test_columns_that_no_table_holds_are_left_out_and_named(tmp_path: Path) -> None:
    table = table_of(random_cells(20, 40)).append_column("vector", pa.array([[1]] * 20))
    made = plan(write_dataset(tmp_path / "d", [table], gene_table(40)))
    assert made.columns == ("drug", "plate")
    assert made.left_out == {"vector": "type list<element: int64>"}


@pytest.mark.parametrize(
    ("settings", "message"), [({"pca_dim": 40}, "at most 39"), ({"clusters": 61}, "only 60 cells")]
)
def test_more_than_the_matrix_allows_is_refused(dataset: Path, settings: dict[str, int], message: str) -> None:
    made = plan(dataset)
    with pytest.raises(SettingsError, match=message):
        check_sizes(made.cells, made.vocabulary.genes, Settings.model_validate({"pca_dim": 5} | settings))


def test_simulated_cells_need_a_number() -> None:
    with pytest.raises(SettingsError, match="no end"):
        make_plan(Settings(dataset="synthetic", samples="all"))


@pytest.mark.parametrize("column", ["genes", "expressions"])
def test_a_missing_column_is_named(tmp_path: Path, column: str) -> None:
    table = table_of(random_cells(20, 40)).drop_columns([column])
    with pytest.raises(DataError, match=f"has no column '{column}'"):
        plan(write_dataset(tmp_path / "d", [table], gene_table(40)))


def test_a_column_with_a_result_s_name_is_left_out_and_can_be_asked_for(tmp_path: Path) -> None:
    table = table_of(random_cells(20, 40))
    names = ["cluster", "cluster_3", "leiden", "pc1", "total_counts", "n_genes_by_counts", "pct_counts_mt"]
    for name in names:
        table = table.append_column(name, pa.array([0.5, 1.5] * 10))
    folder = write_dataset(tmp_path / "d", [table], gene_table(40))
    made = plan(folder, where="`cluster` > 1 and total_counts > 1", per="leiden", at_most=6)
    assert made.cells == 6
    assert made.columns == ("drug", "plate", *names[4:])
    assert made.left_out == dict.fromkeys(names[:4], "the results have a column of their own of this name")
    checked = plan(folder, min_genes=1, where="total_counts > 1")
    assert (checked.cells, checked.columns) == (10, ("drug", "plate"))
    assert list(checked.left_out) == names
    for named in ({"batch": "cluster"}, {"compare": "drug,total_counts"}):
        with pytest.raises(SettingsError, match=r"the column is left out: the results have a column of their own"):
            check_columns(checked, Recipe.model_validate(named))


def test_a_missing_vocabulary_is_named(dataset: Path) -> None:
    (dataset / "metadata" / "gene_metadata.parquet").unlink()
    with pytest.raises(SourceError, match=r"metadata/gene_metadata\.parquet, is not there"):
        plan(dataset)


def test_a_folder_needs_no_readme(dataset: Path) -> None:
    before = plan(dataset)
    (dataset / "README.md").unlink()
    assert plan(dataset) == before


@pytest.mark.parametrize("column", ["token_id", "ensembl_id"])
def test_a_vocabulary_that_repeats_itself_is_refused(tmp_path: Path, column: str) -> None:
    genes = gene_table(40)
    repeated = pa.concat_tables([genes.slice(0, 39), genes.slice(0, 1)])
    kept = repeated.set_column(2, "token_id", genes["token_id"]) if column == "ensembl_id" else repeated
    kept = kept.set_column(1, "ensembl_id", genes["ensembl_id"]) if column == "token_id" else kept
    with pytest.raises(SourceError, match=f"repeated '{column}'"):
        plan(write_dataset(tmp_path / "d", [table_of(random_cells(20, 40))], kept))


def test_a_vocabulary_without_tokens_is_refused(tmp_path: Path) -> None:
    genes = gene_table(40).drop_columns(["token_id"])
    with pytest.raises(SourceError, match="has no column 'token_id'"):
        plan(write_dataset(tmp_path / "d", [table_of(random_cells(20, 40))], genes))


def test_a_dataset_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"nowhere.*--dataset synthetic"):
        plan(tmp_path / "nowhere")


def test_a_truncated_shard_is_named(dataset: Path) -> None:
    shard = sorted((dataset / "data").iterdir())[0]
    shard.write_bytes(shard.read_bytes()[:-100])
    with pytest.raises(DataError, match="train-00000-of-00002"):
        plan(dataset)


def test_a_corrupt_page_is_named_by_shard_and_rows(dataset: Path) -> None:
    shard = sorted((dataset / "data").iterdir())[0]
    data = bytearray(shard.read_bytes())
    data[40:400] = b"\xff" * 360
    shard.write_bytes(data)
    made = plan(dataset)
    with pytest.raises(DataError, match=r"shard data/train-00000-of-00002\.parquet, rows from 0 on"):
        list(stream_partition(made.partitions[0]))


@pytest.mark.parametrize("linked", ["synthetic", f"synthetic/version-{SIMULATION}-seed-42", "data", "metadata"])
def test_simulated_cells_are_not_written_behind_a_link_in_a_store(tmp_path: Path, linked: str) -> None:
    asked = Settings(dataset="synthetic", samples=10, store=str(tmp_path / "store"))
    inside = "" if "synthetic" in linked else f"synthetic/version-{SIMULATION}-seed-42/"
    link = tmp_path / "store" / inside / linked
    link.parent.mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    link.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreError, match=r"link.*none is followed"):
        locate_dataset(asked)
    assert not list((tmp_path / "elsewhere").iterdir())
