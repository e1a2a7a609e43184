"""Tests of the simulated dataset: its layout, its cells' statistics, and what was planted in them."""

import errno
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import scipy.sparse as sp
import yaml
from datasets import load_dataset
from sklearn.cluster import KMeans
from sklearn.decomposition import TruncatedSVD
from sklearn.metrics import adjusted_rand_score

from tasks.core.base.errors import StoreError
from tasks.core.dataset import synthetic
from tasks.core.dataset.simulation import Simulation
from tasks.core.dataset.synthetic import main, plate_of, shard_path, write_dataset

SEED = 11
VOCABULARY = 62_710
# As Tahoe has them.
TABLES = {
    "sample_metadata": [
        "sample",
        "plate",
        "mean_gene_count",
        "mean_tscp_count",
        "mean_mread_count",
        "mean_pcnt_mito",
        "drug",
        "drugname_drugconc",
    ],
    "drug_metadata": [
        "drug",
        "targets",
        "moa-broad",
        "moa-fine",
        "human-approved",
        "clinical-trials",
        "gpt-notes-approval",
        "canonical_smiles",
        "pubchem_cid",
    ],
    "cell_line_metadata": [
        "cell_name",
        "Cell_ID_DepMap",
        "Cell_ID_Cellosaur",
        "Organ",
        "Driver_Gene_Symbol",
        "Driver_VarZyg",
        "Driver_VarType",
        "Driver_ProtEffect_or_CdnaEffect",
        "Driver_Mech_InferDM",
        "Driver_GeneType_DM",
    ],
}
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Screen:
    """The cells of a shard, read back: counts by token, and the columns about each cell."""

    table: pa.Table
    counts: sp.csr_array

    def where(self, column: str, name: str) -> npt.NDArray[np.bool_]:
        chosen: npt.NDArray[np.bool_] = np.equal(self.table[column].to_pylist(), name)
        return chosen

    def shares(self, rows: npt.NDArray[np.bool_]) -> Floats:
        """Each token's share of the molecules of some cells, with half a molecule more so that none is zero."""
        molecules = self.counts[rows].sum(axis=0) + 0.5
        return np.asarray(molecules / molecules.sum())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("screen"), cells=5_001, seed=SEED)


@pytest.fixture(scope="module")
def screen(folder: Path) -> Screen:
    table = pq.read_table(folder / shard_path(0)).combine_chunks()
    offsets, tokens, values = _lists(table)
    # The marker's value is the only one below zero.
    counted = (np.maximum(values, 0), tokens.astype(np.int32), offsets.copy())
    counts = sp.csr_array(counted, shape=(table.num_rows, VOCABULARY + 3))
    counts.eliminate_zeros()
    return Screen(table, counts)


@pytest.fixture(scope="module")
def planted(folder: Path) -> pa.Table:
    return pq.read_table(folder / "metadata" / "planted_effects.parquet")


def _lists(table: pa.Table) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    genes, expressions = (table[name].combine_chunks() for name in ("genes", "expressions"))
    assert genes.offsets.equals(expressions.offsets)
    return genes.offsets.to_numpy(), genes.values.to_numpy(), expressions.values.to_numpy()


def _files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _effects(planted: pa.Table, kind: str) -> Iterator[tuple[str, npt.NDArray[np.int64], Floats]]:
    of_kind = planted.filter(pc.equal(planted["kind"], kind))
    names = np.array(of_kind["name"].to_pylist())
    tokens, changes = of_kind["token_id"].to_numpy(), of_kind["log2_fold_change"].to_numpy()
    for name in np.unique(names):
        yield str(name), tokens[names == name], changes[names == name]


def test_folder_holds_readme_metadata_and_whole_shards(folder: Path) -> None:
    assert set(_files(folder)) == {
        "README.md",
        "data/train-00000-of-19125.parquet",
        "data/train-00001-of-19125.parquet",
        "metadata/gene_metadata.parquet",
        "metadata/planted_effects.parquet",
        "metadata/sample_metadata.parquet",
        "metadata/drug_metadata.parquet",
        "metadata/cell_line_metadata.parquet",
    }


def test_readme_names_the_configs_and_says_that_cells_are_simulated(folder: Path) -> None:
    _, head, body = (folder / "README.md").read_text().split("---\n", maxsplit=2)
    paths = {config["config_name"]: config["data_files"][0]["path"] for config in yaml.safe_load(head)["configs"]}
    tables = ("gene_metadata", "sample_metadata", "drug_metadata", "cell_line_metadata")
    assert paths == {"expression_data": "data/train-*"} | {name: f"metadata/{name}.parquet" for name in tables}
    assert "These cells are simulated" in body


def test_shards_have_the_documented_columns_in_row_groups_of_a_thousand(folder: Path) -> None:
    about_cells = ["drug", "sample", "BARCODE_SUB_LIB_ID", "cell_line_id", "moa-fine"]
    strings = [*about_cells, "canonical_smiles", "pubchem_cid", "plate"]
    for shard in (0, 1):
        file = pq.ParquetFile(folder / shard_path(shard))
        assert file.schema_arrow.names == ["genes", "expressions", *strings]
        assert file.schema_arrow.types == [pa.list_(pa.int64()), pa.list_(pa.float32()), *[pa.string()] * 8]
        assert [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)] == [1_000] * 5


def test_vocabulary_gives_every_token_an_invented_gene(folder: Path) -> None:
    genes = pq.read_table(folder / "metadata" / "gene_metadata.parquet")
    assert genes.schema.types == [pa.string(), pa.string(), pa.int64()]
    assert genes.column_names == ["gene_symbol", "ensembl_id", "token_id"]
    assert genes["token_id"].to_pylist() == list(range(3, VOCABULARY + 3))
    ids = genes["ensembl_id"].to_pylist()
    assert ids[0] == "SIMG00000000001"
    assert len(set(ids)) == len(set(genes["gene_symbol"].to_pylist())) == VOCABULARY


def test_common_genes_that_no_effect_touches_pass_for_mitochondrial(
    folder: Path, screen: Screen, planted: pa.Table
) -> None:
    genes = pq.read_table(folder / "metadata" / "gene_metadata.parquet")
    tokens = genes.filter(pc.starts_with(genes["gene_symbol"], "MT-"))["token_id"].to_numpy()
    assert len(tokens) == 13
    assert not set(tokens.tolist()) & set(planted["token_id"].to_pylist())
    share = screen.counts[:, tokens].sum() / screen.counts.sum()
    assert 0.02 < share < 0.05


def test_every_cell_finds_its_well_its_drug_and_its_line(folder: Path, screen: Screen) -> None:
    tables = {name: pq.read_table(folder / "metadata" / f"{name}.parquet") for name in TABLES}
    assert {name: table.schema.names for name, table in tables.items()} == TABLES
    wells = screen.table.select(["sample", "plate", "drug"]).group_by(["sample", "plate", "drug"]).aggregate([])
    found = wells.join(tables["sample_metadata"], ["sample", "plate", "drug"])
    assert found["drugname_drugconc"].null_count == 0
    assert set(screen.table["drug"].to_pylist()) - set(tables["drug_metadata"]["drug"].to_pylist()) == {"DMSO_TF"}
    lines = tables["cell_line_metadata"]["Cell_ID_Cellosaur"].to_pylist()
    assert set(screen.table["cell_line_id"].to_pylist()) == set(lines)
    assert len(lines) > len(set(lines))


def test_each_cell_is_the_marker_then_ascending_tokens_with_whole_counts(screen: Screen) -> None:
    offsets, tokens, values = _lists(screen.table)
    heads = offsets[:-1]
    assert np.all(tokens[heads] == 1)
    assert np.all(values[heads] == -2.0)
    of_genes = np.ones(len(tokens), bool)
    of_genes[heads] = False
    assert np.all(np.diff(tokens)[of_genes[1:]] > 0)
    assert tokens[of_genes].min() >= 3
    assert tokens[of_genes].max() < VOCABULARY + 3
    assert np.all((values[of_genes] >= 1) & (values[of_genes] % 1 == 0))


def test_cells_have_the_depth_and_spread_of_the_real_ones(screen: Screen) -> None:
    genes, molecules = np.diff(screen.counts.indptr), screen.counts.sum(axis=1)
    assert 1_300 < genes.mean() < 1_560
    assert 2_100 < molecules.mean() < 2_500
    assert 0.3 < np.log(molecules).std() < 0.5
    assert 1.5 < screen.counts.data.mean() < 1.7
    assert 6 <= np.percentile(screen.counts.data, 99) <= 8


def test_gene_means_are_heavy_tailed_and_unrelated_to_the_order_of_genes(screen: Screen) -> None:
    means = screen.counts.mean(axis=0)[3:]
    assert np.sort(means)[-627:].sum() > 0.25 * means.sum()
    assert abs(np.corrcoef(np.arange(VOCABULARY), means > 0)[0, 1]) < 0.02


def test_lines_and_wells_are_interleaved_on_one_plate(screen: Screen) -> None:
    first = screen.table.slice(0, 1_000)
    assert len(set(first["cell_line_id"].to_pylist())) == 50
    assert len(set(first["sample"].to_pylist())) == 96
    assert set(screen.table["plate"].to_pylist()) == {"plate1"}
    assert len(set(screen.table["drug"].to_pylist())) == 95
    assert "DMSO_TF" in screen.table["drug"].to_pylist()
    assert len(set(screen.table["BARCODE_SUB_LIB_ID"].to_pylist())) == screen.table.num_rows


def test_plates_come_in_turn_and_all_come() -> None:
    assert [plate_of(shard) for shard in (0, 9, 10, 139, 140)] == [0, 0, 1, 13, 0]


def test_line_effects_are_seen_as_planted(screen: Screen, planted: pa.Table) -> None:
    everywhere = screen.shares(np.ones(screen.table.num_rows, bool))
    effects = list(_effects(planted, "cell_line_id"))
    assert len(effects) == 50
    for line, tokens, changes in effects:
        seen = np.log2(screen.shares(screen.where("cell_line_id", line)) / everywhere)[tokens]
        markers, lost = changes > 2, changes < -2
        assert np.median(seen[markers]) > 1
        assert np.median(seen[lost]) < -1
        assert np.corrcoef(seen, changes)[0, 1] > 0.75


def test_drug_effects_are_seen_as_planted_against_the_vehicle(screen: Screen, planted: pa.Table) -> None:
    vehicle = screen.shares(screen.where("drug", "DMSO_TF"))
    expected, seen = [], []
    for drug, tokens, changes in _effects(planted, "drug"):
        treated = screen.shares(screen.where("drug", drug))
        expected.append(np.mean(changes))
        seen.append(np.log2(treated[tokens].sum() / vehicle[tokens].sum()))
    assert len(seen) == 94
    assert min(seen) > 0
    assert np.corrcoef(seen, expected)[0, 1] > 0.8


def test_plate_effects_are_seen_as_planted(planted: pa.Table) -> None:
    model = Simulation(SEED)
    effects = list(_effects(planted, "plate"))
    assert len(effects) == 14
    here, there = (np.bincount(model.cells(plate, 1_000, plate).tokens, minlength=VOCABULARY + 3) for plate in (0, 1))
    tokens = next(tokens for name, tokens, _ in effects if name == "plate1")
    assert here[tokens].sum() > 1.2 * there[tokens].sum()


def test_lines_are_recovered_by_svd_and_k_means(screen: Screen) -> None:
    lines = np.array(screen.table["cell_line_id"].to_pylist())
    some = np.isin(lines, np.unique(lines)[:10])
    counts = screen.counts[some]
    normalized = sp.csr_array(counts.multiply(1e6 / counts.sum(axis=1)[:, None])).log1p()
    embedding = TruncatedSVD(10, random_state=0).fit_transform(normalized)
    labels = KMeans(10, n_init=10, random_state=0).fit_predict(embedding)
    assert adjusted_rand_score(lines[some], labels) > 0.9


def test_two_writers_at_once_give_the_same_bytes_as_a_larger_dataset(folder: Path, tmp_path: Path) -> None:
    with ThreadPoolExecutor(2) as executor:
        list(executor.map(lambda _: write_dataset(tmp_path, cells=1, seed=SEED), range(2)))
    larger, smaller = _files(folder), _files(tmp_path)
    del larger[str(shard_path(1))]
    assert smaller == larger


def test_another_seed_gives_other_cells_and_effects() -> None:
    ours, others = Simulation(SEED), Simulation(SEED + 1)
    assert not np.array_equal(ours.cells(0, 10, 0).tokens, others.cells(0, 10, 0).tokens)
    assert not np.array_equal(ours.effects[0].genes, others.effects[0].genes)


def test_what_is_there_is_not_written_again(folder: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    seen: list[tuple[int, int]] = []
    write_dataset(folder, cells=10_000, seed=SEED, on_shard=lambda done, total: seen.append((done, total)))
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    assert seen == [(1, 2), (2, 2)]


def test_a_write_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(synthetic, "expression_data", fail)
    with pytest.raises(OSError, match="the disk is full"):
        write_dataset(tmp_path, cells=1, seed=SEED)
    assert list((tmp_path / "data").iterdir()) == []


@pytest.mark.parametrize("cells", [0, -5, 95_625_001])
def test_a_number_of_cells_out_of_range_is_refused(cells: int, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=rf"cells={cells} .* from 1 to 95,625,000"):
        write_dataset(tmp_path / "new", cells=cells, seed=SEED)
    assert not (tmp_path / "new").exists()


def test_a_negative_seed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"seed=-1 .* 0 or more"):
        write_dataset(tmp_path, cells=1, seed=-1)


def test_a_folder_of_another_seed_is_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match=f"other than simulation 2 with seed {SEED + 1}"):
        write_dataset(folder, cells=1, seed=SEED + 1)


def test_command_line_writes_and_reports(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([str(folder), "--cells", "10000", "--seed", str(SEED)])
    assert capsys.readouterr().out == f"{folder}: 10,000 simulated cells, 2 shards\n"


def test_command_line_explains_a_bad_number(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([str(tmp_path), "--cells", "0", "--seed", "1"])
    assert "cells=0 is out of range" in capsys.readouterr().err


def test_datasets_streams_it(folder: Path) -> None:
    cells = load_dataset(str(folder), "expression_data", split="train", streaming=True)
    first = next(iter(cells))
    assert first["genes"][0] == 1
    assert first["expressions"][0] == -2.0
    assert first["plate"] == "plate1"
    genes = load_dataset(str(folder), "gene_metadata", split="train", streaming=True)
    assert next(iter(genes))["token_id"] == 3


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), PermissionError("not yours")])
def test_simulated_cells_that_find_no_room_are_told_and_leave_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: OSError
) -> None:
    def write(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(pq.ParquetWriter, "write_table", write)
    with pytest.raises(StoreError, match=f"^cannot write simulated cells to .*: {error.strerror or error}$"):
        write_dataset(tmp_path / "simulated", 100, seed=1)
    assert not [path for path in (tmp_path / "simulated").rglob("*.parquet*") if path.is_file()]
