"""Applying a model: the fit's own cells get the fit's own bytes, new ones what arithmetic says; nothing is fitted."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from flows.apply_model import apply_model
from flows.command_line import main
from tasks.core.base.settings import ApplySettings
from tasks.core.storage.files import Files
from tests.exact import read_normalized
from tests.flows.conftest import Run
from tests.small_dataset import cell, gene_table, random_cells, table_of, write_dataset, write_random_dataset

SIZES = {"samples": 60, "partition_cells": 20, "block_cells": 7}
TABLES = ("embeddings.csv", "embeddings/part-00000.parquet")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, prefect_server: None) -> Path:
    """Five components and three clusters of the sixty cells of `write_random_dataset`."""
    folder = tmp_path_factory.mktemp("fit")
    dataset = write_random_dataset(folder / "dataset")
    given = {"dataset": dataset, "pca_dim": 5, "clusters": 3, "store": folder / "store", "output": folder / "model"}
    assert main([word for name, value in (given | SIZES).items() for word in (f"--{name}", str(value))]) == 0
    return folder / "model"


def test_the_fit_s_own_cells_get_the_same_bytes(run: Run, dataset: Path, place: str) -> None:
    of_fit = {"store": f"{place}/store", "output": f"{place}/model"}
    assert run(dataset=dataset, pca_dim=5, clusters=3, **SIZES, **of_fit).code == 0
    ran = run("apply", dataset=dataset, model=f"{place}/model", **SIZES, **of_fit | {"output": f"{place}/applied"})
    assert ran.code == 0, ran.err
    files = Files(place, patience=5)
    for name in TABLES:
        assert files.read(f"applied/{name}") == files.read(f"model/{name}")
    assert {entry.path for entry in files.walk("applied")} == {f"applied/{name}" for name in (*TABLES, "run.json")}


def test_what_a_fit_has_left_is_found_and_nothing_is_fitted(run: Run, model: Path, tmp_path: Path) -> None:
    """In a store that has seen no fit of these cells, and again in one that has seen all."""
    asked = {"dataset": model.parent / "dataset", "model": model, "workers": 3, **SIZES}
    first = run("apply", **asked)
    assert first.steps("made") == {
        **dict.fromkeys(("model", "plan", "components", "clusters", "gene order", "labels"), 1),
        "export": 3,
        **dict.fromkeys(("streaming", "matrix", "normalization", "embedding"), 4),
    }
    shared = run("apply", store=model.parent / "store", output=tmp_path / "shared", **asked)
    assert shared.steps("cached") == {"streaming": 4, "matrix": 4, "gene order": 1, "normalization": 4}
    again = run("apply", store=model.parent / "store", **asked)
    assert set(again.steps("made")) == {"model", "plan", "export"}
    for name in TABLES:
        assert (first.output / name).read_bytes() == (model / name).read_bytes()
    record, fitted = first.record, pl.read_csv(model / "clusters.csv")
    assert record["clusters"]["sizes"] == fitted["cells"].to_list()
    assert record["model"]["url"] == str(model)
    assert record["model"]["components"]["name"] == "components.parquet"
    assert record["dataset"]["cells_read"] == 60
    assert "cluster,cells" in first.out.splitlines()
    assert "embedding: partition 4 of 4" in first.err


def test_new_cells_get_the_product_and_the_nearest_centre(run: Run, model: Path, tmp_path: Path) -> None:
    genes = gene_table(40)
    backwards = genes.set_column(1, "ensembl_id", genes["ensembl_id"].combine_chunks()[::-1])
    cells = random_cells(47, 40, seed=5)
    dataset = write_dataset(tmp_path / "new", [table_of(cells)], backwards)
    ran = run("apply", dataset=dataset, model=model, samples="all")
    assert ran.code == 0, ran.err
    names = [f"pc{at}" for at in range(1, 6)]
    v_gk = pl.read_parquet(model / "components.parquet").select(names).to_numpy()[::-1]
    z_nk = read_normalized(dataset, 47) @ v_gk.astype(float)
    given = pl.read_csv(ran.output / "embeddings.csv")
    np.testing.assert_allclose(given.select(names).to_numpy(), z_nk, rtol=1e-4, atol=1e-4)
    clusters = pl.read_csv(model / "clusters.csv")
    distances = np.linalg.norm(z_nk[:, None] - clusters.select(names).to_numpy(), axis=2)
    assert given["cluster"].to_list() == clusters["cluster"].to_numpy()[distances.argmin(axis=1)].tolist()
    assert given["drug"].to_list() == [one.metadata["drug"] for one in cells]


def test_a_model_is_the_centres_and_the_cells_nearest_to_them(model: Path) -> None:
    exact = pl.read_parquet(model / "clusters.parquet")
    assert exact.columns == ["cluster", "cells", *(f"pc{at}" for at in range(1, 6))]
    assert exact.equals(pl.read_csv(model / "clusters.csv", schema=exact.schema))
    cells = pl.read_csv(model / "embeddings.csv")
    means = cells.group_by("cluster").agg(pl.len().alias("cells"), pl.col("^pc.*$").mean()).sort("cluster")
    assert means["cells"].to_list() == exact["cells"].to_list()
    np.testing.assert_allclose(means.select("^pc.*$").to_numpy(), exact.select("^pc.*$").to_numpy(), rtol=1e-5)


def test_bad_cells_may_be_skipped_as_in_a_fit(run: Run, model: Path, tmp_path: Path) -> None:
    cells = random_cells(60, 40)
    cells[7] = cell({43: 1.0})
    dataset = write_dataset(tmp_path / "bad", [table_of(cells)], gene_table(40))
    strict = run("apply", dataset=dataset, model=model, **SIZES)
    assert strict.code == 1
    assert "row 7: a token outside the vocabulary: 43" in strict.err
    ran = run("apply", dataset=dataset, model=model, on_bad_data="skip", most_skipped=0.1, **SIZES)
    assert ran.code == 3
    assert [bad["row"] for bad in ran.record["bad_data"]] == [7]
    assert "1 BAD CELLS WERE SKIPPED" in ran.out
    assert pl.read_csv(ran.output / "embeddings.csv").height == 59


@pytest.mark.parametrize(
    ("flags", "code", "message"),
    [
        ({"model": "nowhere"}, 1, "nowhere/run.json: --model takes the output folder of a run that fitted a model"),
        ({"model": "s3://id:secret@bucket/x"}, 2, "credentials do not belong in a URL"),
        ({"output": "the model's"}, 2, "is where the model is: choose another"),
        (
            {"genes": 41},
            1,
            "of the dataset's 41 the model lacks 1 ('TESTG00040'); apply it to a dataset with",
        ),
    ],
)
def test_what_cannot_be_applied_gives_one_line_and_no_output(
    run: Run, model: Path, tmp_path: Path, flags: dict[str, object], code: int, message: str
) -> None:
    genes = int(str(flags.get("genes", 40)))
    dataset = write_dataset(tmp_path / "new", [table_of(random_cells(60, 40))], gene_table(genes))
    before = {path.name: path.read_bytes() for path in model.rglob("*.*")}
    output = model if "output" in flags else tmp_path / "output"
    ran = run("apply", dataset=dataset, model=flags.get("model", model), output=output)
    assert ran.code == code
    errors = [line for line in ran.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert message in errors[0]
    assert "secret@" not in ran.err
    assert "Traceback" not in ran.err
    assert "streaming" not in ran.err
    assert {path.name: path.read_bytes() for path in model.rglob("*.*")} == before
    assert not list((tmp_path / "output").glob("*"))


def test_the_output_of_an_applied_model_is_no_model(run: Run, model: Path, tmp_path: Path) -> None:
    asked = {"dataset": model.parent / "dataset", **SIZES}
    first = run("apply", model=model, **asked)
    second = run("apply", model=first.output, **asked | {"output": tmp_path / "second"})
    assert second.code == 1
    assert "run.json lists no components.parquet" in second.err


def test_the_model_of_outputs_by_date_is_the_newest(run: Run, model: Path, tmp_path: Path) -> None:
    asked = {"dataset": model.parent / "dataset", "store": model.parent / "store", **SIZES}
    fitted = run(output=tmp_path / "fits" / "{date}", pca_dim=5, clusters=2, **asked)
    assert fitted.code == 0, fitted.err
    (made,) = (tmp_path / "fits").glob("*-*-*")
    assert str(made / "embeddings.csv") in fitted.out
    applied = run("apply", model=tmp_path / "fits", **asked)
    assert applied.code == 0, applied.err
    assert applied.record["model"]["url"] == str(made)


@pytest.mark.parametrize("flag", ["pca_dim", "clusters", "svd_tolerance", "svd_max_passes"])
def test_settings_of_a_fit_are_refused(run: Run, model: Path, tmp_path: Path, flag: str) -> None:
    (tmp_path / "settings.toml").write_text(f"{flag} = 2\n")
    ran = run("apply", model=model, settings_file=tmp_path / "settings.toml")
    assert ran.code == 2
    assert f"there is no setting '{flag}'" in ran.err


def test_the_flow_s_parameters_are_the_settings_the_model_required() -> None:
    schema = apply_model.parameters.model_dump()
    assert list(schema["properties"])[:6] == ["dataset", "samples", "where", "model", "store", "output"]
    assert schema["required"] == ["model"]
    groups = [group["properties"] for group in schema["definitions"].values()]
    shown = schema["properties"] | {name: field for group in groups for name, field in group.items()}
    assert {name: shown[name]["description"] for name in ApplySettings.model_fields} == {
        name: field.description for name, field in ApplySettings.model_fields.items()
    }
