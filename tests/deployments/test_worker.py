"""Prefect's own commands on `prefect.yaml`, and a worker that has no checkout."""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from flows.command_line import FitCommand, read_settings
from tasks.core.base.settings import Settings
from tests.deployments.conftest import Served, prefect
from tests.prefect_server import ROOT, copy_checkout

SMALL = {"dataset": "synthetic", "samples": 300, "pca_dim": 5, "clusters": 3}


def test_each_deployment_has_places_of_its_own_and_starts_here(served: Served) -> None:
    names = ("on-demand", "atlas", "apply-model", "sample-nightly", "full-weekly")
    deployments = [served.deployment(name) for name in names]
    # One run at a time a deployment is one a store only while no two of them share one.
    for place in ("store", "output"):
        assert len({one["parameters"][place] for one in deployments}) == len(deployments)
    assert all(one["global_concurrency_limit"]["limit"] == 1 for one in deployments)
    assert all(one["description"] and one["tags"] for one in deployments)
    assert {line["slug"] for one in deployments for line in one["schedules"]} == {"nightly", "weekly"}
    steps = [{"prefect.deployments.steps.set_working_directory": {"directory": str(ROOT)}}]
    assert all(one["pull_steps"] == steps for one in deployments)


def test_a_variable_puts_all_on_s3(served: Served) -> None:
    try:
        prefect(served, "variable", "set", "tahoe_place", "s3://bucket/lab/")
        prefect(served, "deploy", "--all")
        weekly = served.deployment("full-weekly")
    finally:
        prefect(served, "variable", "delete", "tahoe_place")
        prefect(served, "deploy", "--all")
    places = weekly["parameters"]["store"], weekly["parameters"]["output"]
    assert places == ("s3://bucket/lab/.store-weekly", "s3://bucket/lab/results/weekly")
    assert weekly["schedules"][0]["schedule"]["timezone"] == "Europe/Zurich"


@pytest.fixture(scope="module")
def cloned(served: Served, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with what is in this checkout, deployed by way of a clone."""
    folder = tmp_path_factory.mktemp("repository")
    text = (ROOT / "prefect.yaml").read_text().replace("name: cells\n", "name: elsewhere\n")
    text = re.sub("^    name: ", "    name: cloned-", text, flags=re.MULTILINE)
    pull = f"pull:\n  - prefect.deployments.steps.git_clone: {{repository: 'file://{folder}', branch: main}}\n"
    copy_checkout(folder, text + pull)
    author = {
        "GIT_AUTHOR_NAME": "a",
        "GIT_AUTHOR_EMAIL": "a@b",
        "GIT_COMMITTER_NAME": "a",
        "GIT_COMMITTER_EMAIL": "a@b",
    }
    for words in (["init", "-q", "-b", "main"], ["add", "."], ["commit", "-q", "-m", "all"]):
        subprocess.run(["git", *words], cwd=folder, env=os.environ | author, check=True)
    prefect(served, "work-pool", "create", "elsewhere", "--type", "process")
    prefect(served, "deploy", "--all", cwd=folder)
    return folder


def work_once(served: Served, folder: Path) -> None:
    prefect(served, "worker", "start", "--pool", "elsewhere", "--type", "process", "--run-once", cwd=folder)


@pytest.mark.usefixtures("cloned")
def test_a_worker_without_a_checkout_runs_what_a_pull_step_gets(
    served: Served, places: dict[str, str], tmp_path: Path
) -> None:
    run = served.click_run("cloned-on-demand", **places, **SMALL)
    work_once(served, tmp_path)
    ended = served.end_of(run)
    assert ended["type"] == "COMPLETED", ended["message"]
    assert Path(places["output"], "embeddings.csv").exists()


@pytest.mark.usefixtures("cloned")
def test_results_that_would_go_with_the_clone_are_refused(served: Served, tmp_path: Path) -> None:
    run = served.click_run("cloned-on-demand", **SMALL)
    work_once(served, tmp_path)
    ended = served.end_of(run)
    assert ended["type"] == "FAILED"
    assert "store '.store' is relative to" in ended["message"]
    assert "give an absolute path, or s3://bucket/prefix" in ended["message"]


def test_the_server_takes_the_pool_for_kubernetes(served: Served) -> None:
    template = json.loads((ROOT / "deployments" / "kubernetes.json").read_text())
    body = {"name": "cells-kubernetes", "type": "kubernetes", "base_job_template": template}
    assert served.ask("POST", "work_pools/", body)["base_job_template"] == template


@pytest.mark.parametrize("name", ["settings-local.toml", "settings-s3.toml"])
def test_example_settings_load(name: str) -> None:
    settings = read_settings(["--settings_file", str(ROOT / "deployments" / name)], FitCommand, Settings)
    assert settings.store.startswith("s3://") == settings.output.startswith("s3://") == ("s3" in name)
