"""A work pool: deployed by `prefect deploy` from the checkout's root, run by a process worker."""

import json
import subprocess
import sys
from pathlib import Path

from tests.deployments.conftest import Served
from tests.prefect_server import ROOT


def prefect(served: Served, *words: str) -> str:
    command = [sys.executable, "-m", "prefect", "--no-prompt", *words]
    ran = subprocess.run(
        command, cwd=ROOT, env=served.environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def test_a_worker_runs_what_was_deployed(served: Served, places: dict[str, str]) -> None:
    prefect(served, "work-pool", "create", "cells-s3", "--type", "process")
    prefect(served, "deploy", "--prefect-file", "deployments/prefect-s3.yaml", "--all")
    weekly = served.deployment("full-weekly-s3")
    assert weekly["parameters"]["store"] == "s3://bucket/weekly/store"
    assert weekly["schedules"][0]["schedule"]["timezone"] == "Europe/Zurich"
    assert weekly["concurrency_options"]["collision_strategy"] == "ENQUEUE"
    small = {"dataset": "synthetic", "samples": 300, "pca_dim": 5, "clusters": 3}
    run = served.click_run("sample-nightly-s3", **small, **places)
    prefect(served, "worker", "start", "--pool", "cells-s3", "--type", "process", "--run-once")
    ended = served.end_of(run)
    assert ended["type"] == "COMPLETED", ended["message"]
    assert Path(places["output"], "embeddings.csv").exists()


def test_the_server_takes_the_pool_for_kubernetes(served: Served) -> None:
    template = json.loads((ROOT / "deployments" / "kubernetes.json").read_text())
    body = {"name": "cells-kubernetes", "type": "kubernetes", "base_job_template": template}
    assert served.ask("POST", "work_pools/", body)["base_job_template"] == template
