"""The atlas recipe on real cells of five lines from five experiments, and on cells that it cannot work with."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import adjusted_rand_score

from tests.conftest import real_cells
from tests.flows.conftest import Ran, Run
from tests.small_dataset import Cell, cell, gene_table, random_cells, table_of, write_dataset

CLUSTERINGS = ("cluster", "cluster_10", "leiden")


def scores_of(ran: Ran) -> dict[tuple[str, str], float]:
    comparisons = ran.record["scores"]["comparisons"]
    return {(one["clustering"], one["column"]): one["adjusted_rand_index"] for one in comparisons}


def test_clusters_are_the_cell_lines_and_not_the_experiments(run: Run, real_dataset: Path) -> None:
    ran = run(recipe="atlas", dataset=real_dataset, samples="all", clusters="5,10", layout="none")
    assert ran.code == 0
    cells = pl.read_csv(ran.output / "embeddings.csv")
    with_lines = adjusted_rand_score(cells["cell_line_id"], cells["cluster"])
    with_plates = adjusted_rand_score(cells["plate"], cells["cluster"])
    assert with_lines >= 0.98
    assert with_plates <= 0.12
    told = scores_of(ran)
    assert told["cluster", "cell_line_id"] == pytest.approx(with_lines)
    assert told["cluster", "plate"] == pytest.approx(with_plates)
    assert {clustering for clustering, _ in told} == set(CLUSTERINGS)
    mixing = ran.record["scores"]["mixing"]
    assert mixing["after"] > mixing["before"]
    genes = pl.read_csv(ran.output / "genes.csv")
    assert genes["highly_variable"].sum() == 2_000
    loadings = pl.read_parquet(ran.output / "components.parquet")
    assert (loadings.filter(~genes["highly_variable"]).select("^pc[0-9]+$") == 0).to_numpy().all()


def test_a_recipe_is_a_set_of_settings_and_each_may_be_set_alone(run: Run, real_dataset: Path, tmp_path: Path) -> None:
    common = {"dataset": real_dataset, "samples": "all", "clusters": 5, "pca_dim": 20}
    atlas = run(recipe="atlas", layout="none", leiden=0, markers=0, correction="none", **common)
    by_hand = run(
        **common,
        **{"sampling": "spread", "min_genes": 200, "min_counts": 500, "max_mito": 30, "min_cells": 5, "batch": "plate"},
        **{"genes": "seurat", "method": "pca", "scale_max": 10, "compare": "cell_line_id,plate,drug"},
        output=tmp_path / "by_hand",
    )
    assert by_hand.record["recipe"] == atlas.record["recipe"]
    assert (atlas.output / "embeddings.csv").read_bytes() == (by_hand.output / "embeddings.csv").read_bytes()


def test_workers_do_not_matter_and_a_second_run_finds_all(run: Run, tmp_path: Path) -> None:
    settings = {"recipe": "atlas", "dataset": real_cells("mixology-thin"), "samples": "all", "clusters": "5,8"}
    first = run(**settings, workers=1)
    other = run(**settings, workers=4, store=tmp_path / "another", output=tmp_path / "other")
    again = run(**settings, output=tmp_path / "again")
    assert set(again.steps("made")) == {"plan", "export", "report"}
    names = {output["name"] for output in first.record["outputs"]} - {"report.html"}
    assert {"genes.csv", "markers.csv"} < names
    for name in names:
        content = (first.output / name).read_bytes()
        assert (other.output / name).read_bytes() == content, name
        assert (again.output / name).read_bytes() == content, name


# scanpy's plots use what matplotlib, pandas and anndata are about to change.
@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning", "ignore::DeprecationWarning", "ignore::FutureWarning")
def test_scanpy_opens_the_export_and_plots_it(run: Run) -> None:
    import anndata  # noqa: PLC0415  (slow, and most tests need none)
    import matplotlib as mpl  # noqa: PLC0415
    import scanpy  # noqa: PLC0415

    mpl.use("Agg")
    asked = {"recipe": "atlas", "dataset": real_cells("mixology-thin"), "samples": "all", "clusters": 5, "pca_dim": 10}
    ran = run("--export_counts", **asked, export="h5ad")
    cells = anndata.read_h5ad(ran.output / "results.h5ad")
    table = pl.read_parquet(ran.output / "embeddings")
    assert cells.shape == (1021, 62_710)
    assert set(cells.obsm) == {"X_pca", "X_pca_harmony", "X_umap"}
    np.testing.assert_array_equal(cells.obsm["X_pca_harmony"], table.select("^pc[0-9]+$").to_numpy())
    np.testing.assert_array_equal(cells.obs["cluster"].astype(int), table["cluster"])
    np.testing.assert_array_equal(np.asarray(cells.X.sum(axis=1)).ravel(), table["total_counts"])
    assert np.isfinite(cells.obsm["X_umap"]).all()
    scanpy.pp.normalize_total(cells, target_sum=1e6)
    scanpy.pp.log1p(cells)
    scanpy.pl.umap(cells, color=["cluster", "cell_line_id"], show=False)
    scanpy.pl.pca_variance_ratio(cells, n_pcs=10, show=False)
    best = [cells.uns["rank_genes_groups"]["names"][name][0] for name in cells.obs["cluster"].cat.categories]
    scanpy.pl.dotplot(cells, best, groupby="cluster", show=False)


def plates(*of_cells: str | None, **also: Any) -> list[Cell]:
    made = random_cells(len(of_cells), 40)
    for one, plate in zip(made, of_cells, strict=True):
        one.metadata |= {"plate": plate} | also
    return made


BY_HAND = {"pca_dim": 3, "clusters": 2, "samples": "all"}
TWO_PLATES = plates(*["plate1", "plate2"] * 30)


@pytest.mark.parametrize(
    ("cells", "settings", "message"),
    [
        (
            TWO_PLATES,
            {"batch": "run", "correction": "harmony"},
            "--batch run: the cells have no such column; they have",
        ),
        (TWO_PLATES, {"compare": "drug,dose"}, "--compare dose: the cells have no such column"),
        (plates(*["plate1"] * 60), {"batch": "plate", "correction": "harmony"}, "all cells have the value 'plate1'"),
        (plates("plate2", *["plate1"] * 59), {"batch": "plate", "genes": "seurat"}, "'plate2' has a single cell"),
        (
            TWO_PLATES,
            {"genes": "seurat", "n_top_genes": 500},
            "n_top_genes=500 must be from 1 to the genes whose values",
        ),
        (TWO_PLATES, {"min_cells": 61}, "--min_cells 61: no gene is expressed by so many cells"),
        (TWO_PLATES, {"min_genes": 5_000}, "none of 60 cells has at least 5,000 genes"),
        (TWO_PLATES, {"min_genes": 16, "clusters": 58}, "--clusters 58: there are only"),
        (
            TWO_PLATES,
            {"genes": "seurat", "n_top_genes": 3, "pca_dim": 5},
            "--pca_dim 5: a matrix of 60 cells and 3 genes",
        ),
        (TWO_PLATES, {"max_mito": 20}, "--max_mito 20: no gene of the vocabulary has a symbol that begins with MT-"),
        (TWO_PLATES, {"scale_max": 10}, "--scale_max 10 shifts each gene, which only --method pca does not see"),
        (TWO_PLATES, {"correction": "harmony"}, "--correction harmony needs --batch"),
        (TWO_PLATES, {"method": "pca", "series": "s"}, "--series continues runs of the plain recipe only"),
        (TWO_PLATES, {"per": "plate"}, "--per and --at_most go together"),
        (TWO_PLATES, {"where": "plat == 'plate1'"}, "plat"),
        (TWO_PLATES, {"where": "plate == 'plate9'"}, "none of the 60 cells match"),
        (TWO_PLATES, {"clusters": "5,x"}, "--clusters 5,x"),
    ],
)
def test_what_cannot_be_done_is_told_in_one_line_and_nothing_is_written(
    run: Run, tmp_path: Path, cells: list[Cell], settings: dict[str, object], message: str
) -> None:
    dataset = write_dataset(tmp_path / "d", [table_of(cells)], gene_table(40))
    ran = run(dataset=dataset, **BY_HAND | settings)
    assert ran.code in (1, 2)
    assert message in ran.err.splitlines()[-1]
    assert "Traceback" not in ran.err
    assert not ran.output.exists() or not list(ran.output.iterdir())


def test_nulls_and_odd_texts_in_columns_that_are_compared_do_no_harm(run: Run, tmp_path: Path) -> None:
    odd = ["<script>alert(1)</script>", "\u202eabc", "ä,ö\n\"x'", None]
    cells = [cell({gene + 3: 1.0 + at % 3 for gene in range(at % 5, 40)}, drug=odd[at % 4]) for at in range(60)]
    for at, one in enumerate(cells):
        one.metadata["plate"] = ["plate1", None][at % 2]
    dataset = write_dataset(tmp_path / "d", [table_of(cells)], gene_table(40))
    asked = {"compare": "drug,plate", "batch": "plate", "method": "pca", "correction": "harmony", "markers": 2}
    ran = run(dataset=dataset, **BY_HAND, **asked, leiden=1, export="h5ad")
    assert ran.code == 0, ran.err
    recalls = {one["column"]: one["recalls"] for one in ran.record["scores"]["comparisons"]}
    assert set(recalls["drug"]) == {"(none)", *odd[:3]}
    page = (ran.output / "report.html").read_text()
    assert "<script" not in page
    assert "&lt;script&gt;" in page
