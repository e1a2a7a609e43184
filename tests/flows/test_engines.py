"""The same bytes whoever works: threads, a Dask cluster of any size."""

import sys
from collections.abc import Iterator
from pathlib import Path

import dask
import pytest

from flows.engines import cluster as dask_engine
from flows.engines.begin import Beginning
from tasks.core.base.errors import EngineError
from tests.dask_cluster import DaskCluster, dask_cluster
from tests.flows.conftest import Ran, Run
from tests.small_dataset import cell, gene_table, random_cells, table_of, write_dataset

# Groups of several blocks, and four partitions.
PLAIN: dict[str, object] = {
    "samples": 1_200,
    "partition_cells": 300,
    "block_cells": 30,
    "pca_dim": 8,
    "clusters": 3,
    "workers": 2,
}
ATLAS = PLAIN | {
    "recipe": "atlas",
    "min_genes": 1,
    "min_counts": 1,
    "max_mito": 100,
    "genes": "seurat_v3",
    "n_top_genes": 30,
    "layout": "none",
    "compare": "drug",
}


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Cells of two plates."""
    made = random_cells(1_200, 60)
    for index, one in enumerate(made):
        one.metadata["plate"] = f"plate{index % 2}"
    return write_dataset(tmp_path_factory.mktemp("cells"), [table_of(made[:600]), table_of(made[600:])], gene_table(60))


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[DaskCluster]:
    with dask_cluster(tmp_path / "cluster") as cluster:
        yield cluster


def tables(ran: Ran) -> dict[str, bytes]:
    assert ran.code == 0, ran.err
    found = [path for path in ran.output.rglob("*") if path.suffix in (".csv", ".parquet")]
    assert len(found) >= 7
    return {str(path.relative_to(ran.output)): path.read_bytes() for path in found}


def test_a_cluster_of_its_own_gives_the_same_bytes(run: Run, cells: Path, tmp_path: Path) -> None:
    def made_by(engine: str) -> dict[str, bytes]:
        places = {"store": tmp_path / f"store-{engine}", "output": tmp_path / f"output-{engine}"}
        return tables(run(dataset=cells, engine=engine, **ATLAS | places))

    assert made_by("dask") == made_by("threads")


def test_a_cluster_gives_the_same_bytes_however_many_work(
    run: Run, cells: Path, tmp_path: Path, cluster: DaskCluster
) -> None:
    expected = tables(run(dataset=cells, store=tmp_path / "threads", **PLAIN))
    for joining in (1, 1, 2):
        cluster.add_workers(joining)
        store = tmp_path / f"store-{len(cluster.workers)}"
        ran = run(dataset=cells, store=store, engine="dask", dask_address=cluster.address, **PLAIN)
        assert tables(ran) == expected
    assert len(cluster.workers) == 4


def test_an_address_is_for_dask(run: Run) -> None:
    ran = run(dask_address="tcp://127.0.0.1:8786")
    assert ran.code == 2
    assert ran.err == "error: --dask_address tcp://127.0.0.1:8786 is for --engine dask, this is threads: add it\n"


def test_an_address_where_nobody_answers_is_told_in_one_line(run: Run) -> None:
    ran = run(dataset="synthetic", samples=100, engine="dask", dask_address="tcp://127.0.0.1:9")
    assert ran.code == 1
    assert ran.err.splitlines()[-1].startswith("error: no Dask scheduler answers at tcp://127.0.0.1:9")
    assert "Traceback" not in ran.err


def test_without_the_extra_a_run_says_how_to_get_it(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "flows.engines.cluster", raising=False)
    monkeypatch.setitem(sys.modules, "distributed", None)
    ran = run(dataset="synthetic", samples=100, engine="dask")
    assert ran.code == 2
    assert ran.err.splitlines()[-1].endswith("pip install .[dask]")


def test_what_a_worker_refuses_is_told_as_on_a_thread(run: Run, tmp_path: Path) -> None:
    bad = write_dataset(tmp_path / "bad", [table_of([*random_cells(59, 40), cell({9: 0.5})])], gene_table(40))
    asked = {"dataset": bad, "samples": 60, "pca_dim": 2, "clusters": 2, "workers": 1}
    refused = [run(engine=engine, **asked) for engine in ("threads", "dask")]
    assert [ran.code for ran in refused] == [1, 1]
    told, by_worker = (ran.err.splitlines()[-1] for ran in refused)
    assert "row 59" in told
    assert by_worker == told


def test_a_cluster_that_does_not_start_says_why_in_one_line() -> None:
    with (
        dask.config.set({"temporary-directory": "/proc/nowhere"}),
        pytest.raises(EngineError, match=r"^no Dask cluster starts on this machine .*'/proc/nowhere'.: DASK_.*$"),
        dask_engine.cluster(None, 1, Beginning(None, None)),
    ):
        pass
