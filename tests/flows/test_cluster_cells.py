import hashlib
import re
from pathlib import Path
from platform import python_version
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.decomposition import TruncatedSVD

from flows.cluster_cells import cluster_cells
from flows.parameters import parameters_of, settings_of
from tasks.core.base.environment import environment
from tasks.core.base.errors import SettingsError
from tasks.core.base.settings import Settings
from tasks.core.dataset.synthetic import write_dataset
from tests.conftest import real_cells
from tests.exact import correlations, decompose, read_normalized, well_separated
from tests.flows.conftest import Ran, Run
from tests.small_dataset import cell, gene_table, random_cells, table_of
from tests.small_dataset import write_dataset as write_small_dataset

METADATA = [
    *("drug", "sample", "BARCODE_SUB_LIB_ID", "cell_line_id"),
    *("moa-fine", "canonical_smiles", "pubchem_cid", "plate"),
]


def components(ran: Ran, number: int) -> np.ndarray:
    return pl.read_csv(ran.output / "embeddings.csv").select([f"pc{at}" for at in range(1, number + 1)]).to_numpy()


def check_accuracy(ran: Ran, dataset: Path, cells: int, number: int) -> None:
    exact = decompose(read_normalized(dataset, cells), number)
    values = np.array([component["singular_value"] for component in ran.record["svd"]["components"]])
    np.testing.assert_allclose(values, exact.values, rtol=1e-4)
    close = correlations(components(ran, number), exact.embedding)
    apart = well_separated(exact.values)
    assert apart.any()
    assert (close[apart] >= 0.999).all()
    ratios = pl.read_csv(ran.output / "pca_variance.csv")["explained_variance_ratio"].to_numpy()
    np.testing.assert_allclose(ratios, exact.ratios, atol=1e-5)


def test_real_cells_give_the_contract_s_files(run: Run, real_dataset: Path) -> None:
    ran = run(dataset=real_dataset, samples=1021, pca_dim=20, clusters=5)
    assert ran.code == 0
    cells = pl.read_csv(ran.output / "embeddings.csv")
    assert cells.columns == [*METADATA, *(f"pc{at}" for at in range(1, 21)), "cluster"]
    source = pl.concat([pl.read_parquet(path) for path in sorted((real_dataset / "data").iterdir())])
    assert cells["BARCODE_SUB_LIB_ID"].to_list() == source["BARCODE_SUB_LIB_ID"].to_list()
    assert cells["plate"].to_list() == source["plate"].to_list()
    assert sorted(cells["cluster"].unique()) == list(range(5))
    variance = pl.read_csv(ran.output / "pca_variance.csv")
    assert variance.columns == ["pc", "explained_variance_ratio"]
    assert variance["pc"].to_list() == [f"pc{at}" for at in range(1, 21)]
    check_accuracy(ran, real_dataset, 1021, 20)


def test_variance_and_signs_are_those_of_sklearn_run_to_convergence(run: Run) -> None:
    dataset = real_cells("mixology-thin")
    ran = run(dataset=dataset, samples=1021, pca_dim=20, clusters=5)
    svd = TruncatedSVD(20, algorithm="arpack", random_state=0)
    embedding = svd.fit_transform(read_normalized(dataset, 1021))
    ratios = pl.read_csv(ran.output / "pca_variance.csv")["explained_variance_ratio"].to_numpy()
    np.testing.assert_allclose(ratios, svd.explained_variance_ratio_, atol=1e-5)
    apart = well_separated(svd.singular_values_)
    np.testing.assert_allclose(components(ran, 20)[:, apart], embedding[:, apart], atol=0.1)
    loadings = pl.read_parquet(ran.output / "components.parquet")
    assert loadings.columns == ["ensembl_id", "gene_symbol", *(f"pc{at}" for at in range(1, 21))]
    np.testing.assert_allclose(loadings["pc1"].to_numpy(), svd.components_[0], atol=1e-5)


def test_twenty_thousand_simulated_cells_are_as_accurate(run: Run, tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "dataset", 20_000, seed=42)
    ran = run(dataset=dataset, samples=20_000)
    assert ran.code == 0
    check_accuracy(ran, dataset, 20_000, 50)


def test_the_record_tells_what_made_the_files(run: Run, dataset: Path) -> None:
    ran = run(dataset=dataset, samples=60, pca_dim=5, clusters=2, seed=7)
    record = ran.record
    assert record["settings"]["seed"] == 7
    assert record["read"]["cells"] == 60
    assert record["dataset"]["revision"]
    (made_in,) = record["environments"]
    assert {"python", "numpy", "scipy", "scikit-learn", "numba", "igraph", "pyarrow", "blas"} <= made_in.keys()
    assert {tuple(cost["environments"]) for cost in record["stages"]} == {(0,)}
    assert {cost["stage"] for cost in record["stages"]} >= {"streaming", "matrix", "normalization", "svd", "export"}
    for output in record["outputs"]:
        content = (ran.output / output["name"]).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (output["size"], output["sha256"])
    parquet = pl.read_parquet(ran.output / "embeddings")
    assert parquet.schema["pc1"] == pl.Float32
    assert parquet.equals(pl.read_csv(ran.output / "embeddings.csv", schema=parquet.schema))


def test_the_record_tells_by_stage_what_made_what_was_found(
    run: Run, dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"dataset": dataset, "samples": 60, "pca_dim": 3, "partition_cells": 20}
    run(**settings | {"samples": 20}, clusters=2)
    monkeypatch.setattr("tasks.core.base.environment.platform.python_version", lambda: "9.9.9")
    environment.cache_clear()
    try:
        again = run(**settings, clusters=2)
    finally:
        environment.cache_clear()
    pythons = [made_in["python"] for made_in in again.record["environments"]]
    by_stage = {cost["stage"]: {pythons[at] for at in cost["environments"]} for cost in again.record["stages"]}
    assert {stage for stage, made_in in by_stage.items() if made_in == {"9.9.9", python_version()}} == {
        *("streaming", "matrix", "normalization")
    }
    assert by_stage["gene order"] == {python_version()}
    assert by_stage["svd"] == by_stage["clustering"] == by_stage["export"] == {"9.9.9"}
    page = (again.output / "report.html").read_text()
    assert "environment 2" in page
    assert "What made which results" in page


@pytest.mark.parametrize("other", [{"workers": 1}, {"workers": 5}, {"store": "another"}])
def test_the_same_settings_give_the_same_bytes(
    run: Run, dataset: Path, tmp_path: Path, other: dict[str, object]
) -> None:
    settings = {"dataset": dataset, "samples": 60, "pca_dim": 5, "clusters": 3, "partition_cells": 20, "block_cells": 7}
    first = run(**settings)
    stores = {"store": tmp_path / "another", "output": tmp_path / "again"}
    second = run(**settings | other | stores)
    files = {path.relative_to(first.output) for path in first.output.rglob("*") if path.is_file()}
    names = files - {Path("run.json"), Path("report.html")}
    assert len(names) == 9
    for name in names:
        assert (first.output / name).read_bytes() == (second.output / name).read_bytes()


def test_blocks_and_partitions_do_not_matter(run: Run, dataset: Path, tmp_path: Path) -> None:
    settings = {"dataset": dataset, "samples": 60, "pca_dim": 3, "clusters": 2, "svd_tolerance": 1e-6}
    whole = run(**settings)
    cut = run(**settings, block_cells=4, partition_cells=9, output=tmp_path / "cut")
    scale = np.abs(components(whole, 3)).max()
    np.testing.assert_allclose(components(whole, 3), components(cut, 3), atol=1e-5 * scale)


def test_other_clusters_recompute_the_clustering_alone(run: Run, dataset: Path) -> None:
    settings = {"dataset": dataset, "samples": 60, "pca_dim": 5, "partition_cells": 20}
    run(**settings, clusters=2)
    again = run(**settings, clusters=3)
    assert again.steps("made") == {"plan": 1, "clustering": 1, "export": 4, "report": 1}
    assert again.steps("cached") == {
        "streaming": 4,
        "matrix": 4,
        "gene order": 1,
        "normalization": 4,
        "svd": 1,
        "embedding": 4,
    }


def test_more_cells_stream_the_new_partitions_alone(run: Run, dataset: Path) -> None:
    settings = {"dataset": dataset, "pca_dim": 5, "clusters": 2, "partition_cells": 10}
    run(**settings, samples=30)
    more = run(**settings, samples=60)
    assert {stage: more.steps("made")[stage] for stage in ("streaming", "matrix", "normalization")} == {
        "streaming": 3,
        "matrix": 3,
        "normalization": 3,
    }
    assert more.steps("cached")["streaming"] == 3


def test_fewer_cells_than_asked_for_are_told(run: Run, dataset: Path) -> None:
    ran = run(dataset=dataset, samples=1000, pca_dim=5, clusters=2)
    assert ran.code == 0
    assert "ended before the 1,000 cells asked for" in ran.out
    assert ran.record["dataset"]["ended_early"]
    assert ran.record["dataset"]["cells_read"] == 60


def test_results_end_the_command(run: Run, dataset: Path) -> None:
    ran = run(dataset=dataset, samples=60, pca_dim=5, clusters=2)
    lines = ran.out.splitlines()
    assert lines[0].startswith("60 cells")
    assert str(ran.output / "embeddings.csv") in ran.out
    assert "pc,explained_variance_ratio" in lines
    assert "streaming: partition 2 of 2" in ran.err


def test_a_flag_wins_over_the_environment_which_wins_over_the_file(
    run: Run, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "settings.toml").write_text("pca_dim = 3\nclusters = 4\nsamples = 50\n")
    monkeypatch.setenv("TAHOE_CLUSTERS", "3")
    monkeypatch.setenv("TAHOE_SAMPLES", "40")
    ran = run(dataset=dataset, settings_file=tmp_path / "settings.toml", samples=30)
    settings = ran.record["settings"]
    assert (settings["pca_dim"], settings["clusters"], settings["samples"]) == (3, 3, 30)


def test_components_beyond_the_rank_are_told(run: Run, tmp_path: Path) -> None:
    cells = [cell({3: 1.0, 5: 4.0}), cell({4: 2.0, 5: 1.0})] * 30
    dataset = write_small_dataset(tmp_path / "dataset", [table_of(cells)], gene_table(40))
    ran = run(dataset=dataset, samples=60, pca_dim=5, clusters=2)
    assert ran.code == 0
    assert [component["within_rank"] for component in ran.record["svd"]["components"]] == [
        True,
        True,
        False,
        False,
        False,
    ]
    assert "the last 3 components are beyond the rank of the matrix, and zeros" in ran.out
    assert not components(ran, 5)[:, 2:].any()


def test_components_that_did_not_settle_are_told_everywhere(
    run: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cells = random_cells(300, 200)
    dataset = write_small_dataset(tmp_path / "dataset", [table_of(cells)], gene_table(200))
    ran = run(dataset=dataset, samples=300, pca_dim=20, clusters=2, svd_max_passes=4)
    assert ran.code == 0
    warning = "components did not settle to the svd_tolerance within 4 passes"
    assert warning in ran.out
    assert warning in caplog.text
    assert not ran.record["svd"]["settled"]
    table = pl.read_csv(ran.output / "components.csv")
    assert table.columns == [
        *("pc", "singular_value", "residual", "settled", "within_rank"),
        "explained_variance_ratio",
    ]
    assert (table["settled"] == (table["residual"] <= 5e-4)).all()
    assert table["within_rank"].all()
    assert table.to_dicts() == ran.record["svd"]["components"]
    assert not table["settled"].all()


def test_the_flow_s_parameters_are_the_settings_described_and_bounded() -> None:
    schema = cluster_cells.parameters.model_dump()
    groups = [group["properties"] for group in schema["definitions"].values()]
    shown = schema["properties"] | {name: field for group in groups for name, field in group.items()}
    for name, field in Settings.model_fields.items():
        assert shown[name]["description"] == field.description
        assert shown[name].get("default") == ("" if name == "where" else field.default)
    assert shown["pca_dim"]["minimum"] == 1


def test_settings_are_parameters_and_again_settings() -> None:
    settings = Settings(samples=7, min_genes=3, workers=2)
    assert settings_of(Settings, parameters_of(settings)) == settings
    # As a form has what is left empty, and one of Prefect's own tools a group of which nothing is wanted.
    asked = {"where": "", "samples": 7, "quality": {"min_genes": 3}, "work": {"workers": 2, "dask_address": ""}}
    assert settings_of(Settings, asked) == settings


@pytest.mark.parametrize(
    ("parameters", "why"),
    [
        (
            {"quality": {"pca_dim": 3}},
            "quality has no setting 'pca_dim', but min_genes, min_counts, max_mito, min_cells",
        ),
        ({"quality": 3}, "quality is a group of settings"),
        ({"quality": None}, "quality is a group of settings"),
        ({"output": "s3://of-{date}/results"}, "not of a bucket"),
        ({"output": "results/{date}/../others"}, "nor have '..' behind it"),
    ],
)
def test_parameters_that_are_no_settings_are_refused(parameters: dict[str, Any], why: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(why)):
        settings_of(Settings, parameters)
