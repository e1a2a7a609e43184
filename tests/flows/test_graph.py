"""The task graph that the UI draws, as the server has it: each task run hangs on those whose results it is given."""

import shutil
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prefect import Task
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import TaskRun, TaskRunResult
from prefect.task_runners import ProcessPoolTaskRunner, ThreadPoolTaskRunner

from flows.apply_model import apply_model
from flows.cluster_cells import cluster_cells
from tasks.core.base.errors import SettingsError
from tests.small_dataset import gene_table, random_cells, table_of, write_dataset

_SECONDS = 60
# So that of few small cells some genes and all cells are left.
_BOUNDS = {
    "quality": {"min_genes": 1, "min_counts": 1, "min_cells": 1, "max_mito": 100},
    "reduction": {"n_top_genes": 20},
}
OF_ATLAS = {"recipe": "atlas", "insight": {"compare": "drug,plate"}, **_BOUNDS}
# Partitions of the dataset, each a batch of its own.
PARTS = range(4)


def each(task: str, *others: str) -> dict[str, set[str]]:
    """Edges of a task that has a run for each partition, along the partition and to what all hang on."""
    return {f"{task} {at}": {other.format(at) for other in others} for at in PARTS}


def all_of(*tasks: str) -> set[str]:
    return {f"{task} {at}" for task in tasks for at in PARTS}


PARTITIONS = {
    "plan_partitions": set(),
    **each("stream_cells", "plan_partitions"),
    "order_genes": {"stream_cells 0"},
    **each("build_counts", "stream_cells {}", "order_genes"),
}
NORMALIZED = each("normalize", "build_counts {}")
PLAIN = {
    **PARTITIONS,
    **NORMALIZED,
    "fit_svd": all_of("normalize") | {"order_genes"},
    **each("embed", "normalize {}", "order_genes", "fit_svd"),
    "cluster": all_of("embed") | {"fit_svd"},
    "find_results": all_of("build_counts", "embed") | {"fit_svd", "cluster"},
    **{key: {"find_results"} for key in ("export_part", "export_csv", "export", "write_report")},
    "deliver": {"export_part", "export_csv", "export", "write_report"},
}
ATLAS = {
    **PARTITIONS,
    **each("check_quality", "build_counts {}"),
    **each("normalize", "check_quality {}"),
    "choose_genes": all_of("check_quality", "normalize") | {"order_genes"},
    **each("prepare_genes", "normalize {}", "order_genes", "choose_genes"),
    "fit_svd": all_of("prepare_genes") | {"choose_genes"},
    **each("embed", "prepare_genes {}", "choose_genes", "fit_svd"),
    "correct_batches": all_of("check_quality", "embed"),
    "cluster": {"correct_batches", "fit_svd"},
    "find_communities": {"correct_batches"},
    "find_markers": all_of("normalize") | {"plan_partitions", "order_genes", "cluster"},
    "map_cells": {"correct_batches"},
    "judge": all_of("check_quality", "embed") | {"correct_batches", "cluster", "find_communities"},
    "find_results": all_of("check_quality")
    | {"correct_batches", "fit_svd", "choose_genes", "cluster", "find_communities", "find_markers"},
    **{key: {"find_results"} for key in ("export_part", "export_csv", "export")},
    "write_report": {"find_results", "map_cells", "judge"},
    "deliver": {"export_part", "export_csv", "export", "write_report"},
}
APPLIED = {
    "find_model": set(),
    **PARTITIONS,
    "load_components": {"find_model", "plan_partitions"},
    "load_clusters": {"find_model"},
    **NORMALIZED,
    **each("embed", "normalize {}", "order_genes", "load_components"),
    "label_cells": all_of("embed") | {"load_clusters"},
    "find_results": all_of("build_counts", "embed") | {"label_cells"},
    **{key: {"find_results"} for key in ("export_part", "export_csv")},
    "deliver": {"export_part", "export_csv"},
}

AFTERWARDS = {"export_part", "export_csv", "export", "write_report", "deliver"}


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, Any]:
    cells = random_cells(80, genes=40)
    for at, one in enumerate(cells):
        one.metadata["plate"] = f"plate{at % 2}"
    tables = [table_of(cells[:40]), table_of(cells[40:])]
    dataset = write_dataset(tmp_path / "dataset", tables, gene_table(40))
    places = {"store": str(tmp_path / "store"), "output": str(tmp_path / "output")}
    return {
        "dataset": str(dataset),
        "samples": 80,
        "work": {"partition_cells": 20},
        "pca_dim": 5,
        "clusters": 2,
        **places,
    }


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        pytest.param({}, PLAIN, id="plain"),
        pytest.param(OF_ATLAS, ATLAS, id="atlas"),
    ],
)
def test_each_task_run_hangs_on_those_whose_results_it_is_given(
    settings: dict[str, Any], asked: dict[str, Any], expected: dict[str, set[str]], prefect_server: None
) -> None:
    def edges() -> dict[str, set[str]]:
        return edges_of(cluster_cells(**settings, **asked, return_state=True), len(expected))

    assert edges() == expected
    # What is found in the store hangs together as what is made.
    shutil.rmtree(settings["output"])
    assert edges() == expected


def test_what_the_output_has_already_is_neither_reported_nor_delivered_again(
    settings: dict[str, Any], prefect_server: None
) -> None:
    cluster_cells(**settings)
    expected = {task: of for task, of in PLAIN.items() if task not in AFTERWARDS}
    assert edges_of(cluster_cells(**settings, return_state=True), len(expected)) == expected


def test_so_does_each_that_applies_a_model(settings: dict[str, Any], tmp_path: Path, prefect_server: None) -> None:
    cluster_cells(**settings)
    asked = {name: settings[name] for name in ("dataset", "samples", "work", "store")}
    state = apply_model(**asked, model=settings["output"], output=str(tmp_path / "applied"), return_state=True)
    assert edges_of(state, len(APPLIED)) == APPLIED


def test_the_task_runner_that_is_asked_for_does_the_work(
    settings: dict[str, Any], tmp_path: Path, prefect_server: None
) -> None:
    submitted = []

    class Counting(ThreadPoolTaskRunner[Any]):
        def submit(self, task: Task[Any, Any], *arguments: Any, **named: Any) -> Any:
            submitted.append(task.name)
            return super().submit(task, *arguments, **named)

        def duplicate(self) -> Any:
            return self

    cluster_cells(**settings)
    # Each waits for those before it, on the one thread that there is.
    one: Any = Counting(max_workers=1)
    cluster_cells.with_options(task_runner=one)(
        **settings | {"store": str(tmp_path / "other"), "output": str(tmp_path)}
    )
    assert submitted.count("streaming") == len(PARTS)
    table = (tmp_path / "embeddings.csv").read_bytes()
    assert table == (Path(settings["output"]) / "embeddings.csv").read_bytes()


def test_a_task_runner_of_other_processes_is_refused_in_one_line(
    settings: dict[str, Any], prefect_server: None
) -> None:
    elsewhere: Any = ProcessPoolTaskRunner(max_workers=2)
    with pytest.raises(SettingsError, match="ProcessPoolTaskRunner runs them in others: choose a ThreadPoolTaskRunner"):
        cluster_cells.with_options(task_runner=elsewhere)(**settings)
    assert not Path(settings["store"]).exists()


def edges_of(state: Any, number: int) -> dict[str, set[str]]:
    """Give the task runs that each task run of a flow run hangs on, by their tasks and the place of their partition."""
    assert state.is_completed(), state
    runs = task_runs(state.state_details.flow_run_id, number)
    names = dict(named(runs))
    return {
        names[run.id]: {
            names[given.id]
            for inputs in run.task_inputs.values()
            for given in inputs
            if isinstance(given, TaskRunResult)
        }
        for run in runs
    }


def task_runs(flow_run: UUID | None, number: int) -> list[TaskRun]:
    until = time.monotonic() + _SECONDS
    with get_client(sync_client=True) as client:
        while True:
            runs = client.read_task_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[flow_run])))
            # They are written some time after they are over.
            if len(runs) >= number and all(run.state and run.state.is_final() for run in runs):
                return runs
            assert time.monotonic() < until, f"{len(runs)} of {number} task runs are on the server"
            time.sleep(0.2)


def named(runs: Iterable[TaskRun]) -> Iterable[tuple[UUID, str]]:
    tasks: dict[str, list[TaskRun]] = {}
    for run in runs:
        tasks.setdefault(run.task_key.rpartition("-")[0], []).append(run)
    for task, of in tasks.items():
        for at, run in enumerate(sorted(of, key=lambda run: run.name)):
            yield run.id, f"{task} {at}" if len(of) > 1 else task
