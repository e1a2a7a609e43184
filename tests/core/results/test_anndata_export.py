"""Whether AnnData and scanpy take what is exported for their own."""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import scipy.sparse as sp

from tasks.core.base.errors import DataError
from tasks.core.numerics.block import Block
from tasks.core.results import anndata_table
from tasks.core.results.anndata_export import (
    AnnDataParts,
    CountsOfCells,
    decomposition_notes,
    marker_notes,
    write_h5ad,
)
from tasks.core.results.anndata_table import TableRows, natural_order, safe_names
from tests.memory import most_memory

CELLS, GENES, PIECE = 60, 12, 17
ODD = ["a/b", "naïve 日本", "\u202e", "", "x\x00y", None, "<script>", "b" * 400]


def cut(rows: Any, piece: int = PIECE) -> Callable[[], Iterator[Any]]:
    return lambda: (rows[start : start + piece] for start in range(0, len(rows), piece))


def metadata() -> pl.DataFrame:
    rng = np.random.default_rng(0)
    return pl.DataFrame(
        {
            "barcode": [f"cell{at}" for at in range(CELLS)],
            "plate": [f"plate{at % 11}" for at in range(CELLS)],
            "a/b": [ODD[at % len(ODD)] for at in range(CELLS)],
            "a_b": [at % 5 or None for at in range(CELLS)],
            "_index": pl.Series([None] * CELLS, dtype=pl.String),
            "dose": rng.random(CELLS).astype(np.float32),
            "ok": [at % 3 > 0 for at in range(CELLS)],
            "perhaps": [None, True, False] * (CELLS // 3),
            "unique": [f"text {at}" for at in range(CELLS)],
            "cluster": [(7, 10, 9)[at % 3] for at in range(CELLS)],
        }
    )


def counts() -> sp.csr_array:
    return sp.random_array(
        (CELLS, GENES), density=0.4, rng=3, data_sampler=lambda size: 1.0 + np.arange(size) % 9
    ).tocsr()


def blocks(matrix: sp.csr_array, piece: int = PIECE) -> Callable[[], Iterator[Block]]:
    return lambda: (
        Block(part.indptr, part.indices, part.data.astype(np.uint16)) for part in cut(_Rows(matrix), piece)()
    )


class _Rows:
    def __init__(self, matrix: sp.csr_array) -> None:
        self._matrix = matrix

    def __len__(self) -> int:
        return int(self._matrix.shape[0])

    def __getitem__(self, rows: slice) -> sp.csr_array:
        return self._matrix[rows]


def parts(with_counts: bool = True) -> AnnDataParts:
    rng = np.random.default_rng(1)
    genes = pl.DataFrame(
        {"ensembl_id": [f"ENSG{at}" for at in range(GENES)], "gene_symbol": [f"G{at}" for at in range(GENES)]}
    )
    top = pl.DataFrame(
        {"cluster": np.repeat([7, 9, 10], 4), "gene": genes["ensembl_id"].to_list()}
        | {name: rng.random(12) for name in ("scores", "logfoldchanges", "pvals", "pvals_adj")}
    )
    coordinates = {name: rng.normal(size=(CELLS, of)).astype(np.float32) for name, of in (("X_pca", 5), ("X_umap", 2))}
    variances = np.array([5.0, 4, 3, 2, 1])
    return AnnDataParts(
        obs=TableRows(cut(metadata()), CELLS, ("cluster",), "barcode"),
        var=TableRows(lambda: [genes.with_columns(highly_variable=pl.int_range(GENES) < 8)], GENES, (), "ensembl_id"),
        obsm={name: cut(values) for name, values in coordinates.items()},
        varm={"PCs": rng.normal(size=(GENES, 5))},
        uns={
            "pca": decomposition_notes(variances, variances / 100, zero_center=True),
            "rank_genes_groups": marker_notes(top, "cluster"),
        },
        counts=CountsOfCells(blocks(counts()), counts().nnz) if with_counts else None,
    )


def read(path: Path, **how: Any) -> Any:
    import anndata  # noqa: PLC0415

    return anndata.read_h5ad(path, **how)


def written(folder: Path, of: AnnDataParts) -> Path:
    path = folder / "results.h5ad"
    write_h5ad(path, of)
    assert [file.name for file in folder.iterdir()] == [path.name]
    return path


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    of = parts()
    adata = read(written(tmp_path, of))
    table = metadata()
    assert adata.obs_names.tolist() == table["barcode"].to_list()
    assert adata.obs_names.name == "barcode"
    assert adata.var_names.tolist() == [f"ENSG{at}" for at in range(GENES)]
    assert adata.var["highly_variable"].sum() == 8
    assert adata.obs.columns.tolist() == ["plate", "a_b", "a_b_", "_index_", *table.columns[5:]]
    assert adata.obs["plate"].cat.categories.tolist() == [f"plate{at}" for at in range(11)]
    assert adata.obs["cluster"].cat.categories.tolist() == ["7", "9", "10"]
    odd = [None if text is None else text.replace("\x00", "\ufffd") for text in table["a/b"].to_list()]
    assert adata.obs["a_b"].astype(object).where(adata.obs["a_b"].notna(), None).tolist() == odd
    assert adata.obs["unique"].tolist() == table["unique"].to_list()
    assert adata.obs["_index_"].isna().all()
    assert adata.obs["perhaps"].cat.categories.tolist() == ["false", "true"]
    np.testing.assert_array_equal(adata.obs["a_b_"], table["a_b"].cast(pl.Float64).to_numpy())
    np.testing.assert_array_equal(adata.obs["dose"], table["dose"].to_numpy())
    assert adata.obs["ok"].dtype == bool
    assert (counts() != adata.X).nnz == 0
    assert adata.X.dtype == np.float32
    for name in ("X_pca", "X_umap"):
        np.testing.assert_array_equal(adata.obsm[name], np.concatenate(list(of.obsm[name]())))
    np.testing.assert_array_equal(adata.varm["PCs"], of.varm["PCs"])
    np.testing.assert_array_equal(adata.uns["pca"]["variance"], [5, 4, 3, 2, 1])


def exact_values() -> dict[str, pl.Series]:
    """Columns with more digits than a second or a float64 has, and decimals of few, each with one that is missing."""
    wholes = [3_000_000_000 * at + at for at in range(CELLS - 1)] + [None]
    few = [Decimal(at % 7) / 10 for at in range(CELLS - 1)] + [None]
    many = [Decimal("12345678901234567890.12") + Decimal(at % 5) / 100 for at in range(CELLS - 1)] + [None]
    return {
        "time": pl.Series(wholes).cast(pl.Time),
        "nanoseconds": pl.Series(wholes).cast(pl.Datetime("ns")),
        "microseconds": pl.Series(wholes).cast(pl.Datetime("us", "UTC")),
        "few": pl.Series(few, dtype=pl.Decimal(38, 2)),
        "tiny": pl.Series(few, dtype=pl.Decimal(38, 30)),
        "many": pl.Series(many, dtype=pl.Decimal(38, 2)),
    }


@pytest.mark.parametrize("name", exact_values())
def test_times_and_decimals_keep_their_digits(tmp_path: Path, name: str) -> None:
    values = exact_values()[name]
    obs = pl.DataFrame({name: values})
    column = read(written(tmp_path, replace(parts(), obs=TableRows(cut(obs), CELLS)))).obs[name]
    if values.dtype.is_decimal():
        assert [None if one is None else Decimal(one) for one in column.astype(object).where(column.notna(), None)] == (
            values.to_list()
        )
    else:
        # As in embeddings.csv, but for what is between a day and its time.
        told = obs.write_csv(include_header=False).splitlines()
        texts = column.astype(object).where(column.notna(), "").str.replace(" ", "T").str.replace("+00:00", "+0000")
        assert texts.tolist() == [line.strip('"') for line in told]
        assert len(set(told)) == CELLS


def test_without_counts_there_is_an_x_of_zeros_and_the_bytes_are_the_same_each_time(tmp_path: Path) -> None:
    files = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        files.append(written(tmp_path / name, parts(with_counts=False)))
    assert files[0].read_bytes() == files[1].read_bytes()
    adata = read(files[0])
    assert adata.X.shape == (CELLS, GENES)
    assert adata.X.nnz == 0


def test_a_backed_file_is_read_when_asked_for(tmp_path: Path) -> None:
    backed = read(written(tmp_path, parts()), backed="r")
    assert backed.isbacked
    assert backed.obs["cluster"].value_counts().to_dict() == {"7": 20, "9": 20, "10": 20}
    assert (counts() != backed.to_memory().X).nnz == 0


# anndata sets an option of pandas that has no effect any more.
@pytest.mark.filterwarnings("ignore:The 'mode.chained_assignment' option")
def test_a_backed_file_gives_some_of_the_cells(tmp_path: Path) -> None:
    backed = read(written(tmp_path, parts()), backed="r")
    some = backed[backed.obs["cluster"].to_numpy() == "9"].to_memory()
    assert (counts()[2::3] != some.X).nnz == 0


def test_scanpy_draws_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MPLBACKEND", "Agg")
    adata = read(written(tmp_path, parts()))
    with warnings.catch_warnings():
        # scanpy's own, at its import and in its plots.
        warnings.simplefilter("ignore")
        import matplotlib.pyplot as plt  # noqa: PLC0415
        import scanpy as sc  # noqa: PLC0415

        sc.pl.pca(adata, color="cluster", show=False)
        sc.pl.pca_variance_ratio(adata, show=False)
        sc.pl.pca_loadings(adata, show=False, n_points=6)
        sc.pl.umap(adata, color=["plate", "ENSG1"], show=False)
        sc.pl.embedding(adata, "X_umap", color="G1", gene_symbols="gene_symbol", show=False)
        sc.pl.dotplot(adata, ["ENSG0", "ENSG1"], groupby="cluster", show=False)
        sc.pl.rank_genes_groups_dotplot(adata, n_genes=2, dendrogram=False, show=False)
        sc.pl.rank_genes_groups(adata, n_genes=2, show=False)
        plt.close("all")
        told = sc.get.rank_genes_groups_df(adata, "9")
    assert told["names"].tolist() == [f"ENSG{at}" for at in range(4, 8)]


def test_rows_are_numbered_where_their_names_are_not_each_another(tmp_path: Path) -> None:
    for names in (["a", None, "b"],):
        table = pl.DataFrame({"barcode": names, "__": [1, 2, 3]})
        (tmp_path / "results.h5ad").unlink(missing_ok=True)
        adata = read(written(tmp_path, replace(parts(False), obs=TableRows(cut(table, 2), 3, (), "barcode"), obsm={})))
        assert adata.obs_names.tolist() == ["0", "1", "2"]
        assert adata.obs["barcode"].isna().sum() == names.count(None)


def test_parts_that_do_not_fit_together_are_refused(tmp_path: Path) -> None:
    whole = parts()
    assert whole.counts is not None
    for wrong, told in (
        (replace(whole, obsm={"X_pca": cut(np.zeros((CELLS - 1, 2)))}), "X_pca has 59 values for 60 places"),
        (replace(whole, counts=replace(whole.counts, nonzeros=5)), f"X/data has {counts().nnz} values for 5 places"),
        (replace(whole, obs=replace(whole.obs, length=70)), "X/indptr has 61 values for 71 places"),
    ):
        with pytest.raises(DataError, match=told):
            write_h5ad(tmp_path / "wrong.h5ad", wrong)


def repeated(repeats: int) -> AnnDataParts:
    """So many times the same cells, each time with other names, and their counts."""
    matrix = sp.random_array((500, 2_000), density=0.1, rng=0).tocsr()
    block = Block(matrix.indptr, matrix.indices, np.ones(matrix.nnz, np.uint16))
    genes = pl.DataFrame({"ensembl_id": [f"g{at}" for at in range(2_000)]})
    return AnnDataParts(
        obs=TableRows(lambda: map(named_cells, range(repeats)), 500 * repeats, (), "barcode"),
        var=TableRows(lambda: [genes], 2_000, (), "ensembl_id"),
        obsm={"X_pca": lambda: (np.zeros((500, 20), np.float32) for _ in range(repeats))},
        varm={},
        counts=CountsOfCells(lambda: (block for _ in range(repeats)), matrix.nnz * repeats),
    )


def named_cells(piece: int, cells: int = 500) -> pl.DataFrame:
    names = pl.int_range(cells * piece, cells * (piece + 1), eager=True).cast(pl.String)
    return pl.DataFrame({"barcode": "cell" + names, "plate": ["p1", "p2"] * (cells // 2), "number": range(cells)})


def peak(path: Path, of: AnnDataParts) -> int:
    with most_memory() as most:
        write_h5ad(path, of)
    return most.bytes


@pytest.fixture
def small_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounds that few cells reach."""
    monkeypatch.setattr(anndata_table, "MOST_CATEGORIES", 100)


@pytest.mark.usefixtures("small_bounds")
def test_memory_does_not_grow_with_the_cells(tmp_path: Path) -> None:
    peak(tmp_path / "first.h5ad", repeated(1))
    assert peak(tmp_path / "more.h5ad", repeated(40)) < 2 * peak(tmp_path / "few.h5ad", repeated(4))


@pytest.mark.usefixtures("small_bounds")
def test_neither_names_nor_missing_counts_take_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(anndata_table, "_CHUNK", 2**12)

    def of(pieces: int) -> AnnDataParts:
        rows = TableRows(lambda: (named_cells(piece, 2_000) for piece in range(pieces)), 2_000 * pieces, (), "barcode")
        return replace(repeated(1), obs=rows, obsm={}, counts=None)

    peak(tmp_path / "first.h5ad", of(1))
    few, many = (peak(tmp_path / f"{pieces}.h5ad", of(pieces)) for pieces in (5, 65))
    # Of each cell that is more four bytes, for the files of an archive, which are small here.
    assert many < few + 4 * 120_000


def test_names_and_texts_are_put_in_order() -> None:
    assert natural_order(["p10", "p2", "10", "9", "p²", "P", ""]) == ["", "9", "10", "P", "p2", "p10", "p²"]
    assert safe_names(["a/b", "a_b", "..", "", "\\", "日本"]) == ["a_b", "a_b_", ".._", "_", "\\", "日本"]
