"""A Dask cluster that comes to harm: the run ends with the same bytes, or clearly and to be gone on with."""

import random
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pytest

from tests.dask_cluster import DaskCluster, dask_cluster
from tests.faults.commands import Command, command, results
from tests.faults.tally import fault

SETTINGS: dict[str, object] = {
    "samples": 3_000,
    "pca_dim": 20,
    "clusters": 5,
    "partition_cells": 1_000,
    "block_cells": 50,
}


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[DaskCluster]:
    with dask_cluster(tmp_path / "cluster") as cluster:
        yield cluster


@pytest.fixture(scope="module")
def expected(
    simulated: Path, tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]
) -> dict[str, bytes]:
    place = tmp_path_factory.mktemp("threads")
    run = command(SETTINGS | {"dataset": simulated, "store": place / "store", "output": place / "output"}, environment)
    assert run.end() == 0, run.lines
    return results(str(place / "output"))


def begun(dataset: Path, place: Path, cluster: DaskCluster, environment: dict[str, str]) -> Command:
    where = {"store": place / "store", "output": place / "output", "dask_address": cluster.address}
    return command(SETTINGS | {"dataset": dataset, "engine": "dask"} | where, environment)


def workers_of(run: Command) -> list[int]:
    """Its worker processes."""
    listed = [path.read_text().split() for path in Path(f"/proc/{run.process.pid}/task").glob("*/children")]
    return [int(one) for one in chain(*listed) if b"spawn_main" in Path(f"/proc/{one}/cmdline").read_bytes()]


def read_until(run: Command, start: str) -> None:
    """Wait until it says a line that starts so."""
    while not (run.lines and run.lines[-1].startswith(start)):
        said = len(run.lines)
        run.read_lines(said + 1)
        assert len(run.lines) > said, run.lines


def test_a_worker_that_is_killed_does_not_matter(
    simulated: Path,
    tmp_path: Path,
    cluster: DaskCluster,
    expected: dict[str, bytes],
    environment: dict[str, str],
    faults: int,
) -> None:
    rng = random.Random(0)
    for number in range(faults):
        place = tmp_path / str(number)
        cluster.add_workers(2 - len(cluster.workers))
        run = begun(simulated, place, cluster, environment)
        with fault("kill -9 of a Dask worker"):
            read_until(run, rng.choice(["streaming", "svd: pass 1", "svd: pass 2", "svd: pass 3", "clustering"]))
            cluster.kill_worker()
            assert run.end() == 0, run.lines
            assert results(str(place / "output")) == expected


def test_a_worker_that_joins_late_does_all_that_is_left_when_the_first_one_dies(
    simulated: Path, tmp_path: Path, cluster: DaskCluster, expected: dict[str, bytes], environment: dict[str, str]
) -> None:
    cluster.add_workers(1)
    run = begun(simulated, tmp_path, cluster, environment)
    with fault("a Dask worker that joins late"):
        read_until(run, "svd: pass 1")
        cluster.kill_worker()
        cluster.add_workers(1)
        assert run.end() == 0, run.lines
        assert results(str(tmp_path / "output")) == expected


@pytest.mark.parametrize("limit", ["170MB", "250MB"], ids=["to begin", "to work"])
def test_workers_without_enough_memory_end_the_run_in_one_line_and_better_ones_finish_it(
    simulated: Path,
    tmp_path: Path,
    cluster: DaskCluster,
    expected: dict[str, bytes],
    environment: dict[str, str],
    limit: str,
) -> None:
    cluster.add_workers(1, "--nanny", "--memory-limit", limit)
    with fault("Dask workers out of memory"):
        run = begun(simulated, tmp_path, cluster, environment)
        assert run.end() == 1
        assert "Dask workers died" in run.lines[-1], run.lines
        assert "Traceback" not in "".join(run.lines)
        cluster.kill_worker()
        cluster.add_workers(1)
        run = begun(simulated, tmp_path, cluster, environment)
        assert run.end() == 0, run.lines
        assert results(str(tmp_path / "output")) == expected


def test_a_scheduler_that_dies_ends_the_run_in_one_line_and_another_one_goes_on(
    simulated: Path, tmp_path: Path, expected: dict[str, bytes], environment: dict[str, str]
) -> None:
    with fault("kill -9 of the Dask scheduler"):
        with dask_cluster(tmp_path / "first") as cluster:
            run = begun(simulated, tmp_path, cluster.add_workers(2), environment)
            read_until(run, "svd: pass 2")
        assert run.end() == 1
        assert run.lines[-1].startswith("error: the Dask scheduler at tcp://"), run.lines
        with dask_cluster(tmp_path / "second") as cluster:
            again = begun(simulated, tmp_path, cluster.add_workers(1), environment)
            assert again.end() == 0, again.lines
        assert "streaming: partition 3 of 3, 3 found in the store" in again.lines
        assert "svd: pass 1," not in "".join(again.lines)
        assert results(str(tmp_path / "output")) == expected
