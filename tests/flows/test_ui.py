"""What a person sees in Prefect's UI, in a real browser: the form, a run's summary and its pictures."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from flows.cluster_cells import cluster_cells
from flows.parameters import settings_of
from tasks.core.base.settings import Settings
from tests.browser import Browser, browser
from tests.prefect_server import ROOT, PrefectServer


def run_flow(server: PrefectServer, folder: Path, cells: int) -> dict[str, Any]:
    words = ["flows/run.py", "--dataset", "synthetic", "--samples", str(cells), "--partition_cells", str(cells // 2)]
    places = {"TAHOE_STORE": str(folder / "store"), "TAHOE_OUTPUT": str(folder / "results")}
    environment = server.environment | places
    subprocess.run([sys.executable, *words], cwd=ROOT, env=environment, check=True, capture_output=True)
    (run,) = server.ask("POST", "flow_runs/filter", {})
    return dict(run)


def deploy(server: PrefectServer) -> str:
    flow = server.ask("POST", "flows/", {"name": cluster_cells.name})
    wanted = {
        "name": "sample",
        "flow_id": flow["id"],
        "parameter_openapi_schema": cluster_cells.parameters.model_dump(),
        "enforce_parameter_schema": True,
    }
    return str(server.ask("POST", "deployments/", wanted)["id"])


def test_a_person_finds_the_form_the_summary_and_the_pictures(
    tmp_path: Path, screenshots: Path, pytestconfig: pytest.Config
) -> None:
    cells = int(pytestconfig.getoption("--screenshot_cells"))
    server = PrefectServer(tmp_path)
    with browser(tmp_path / "profile") as page, server.client, server.up():
        run, deployment = run_flow(server, tmp_path, cells), deploy(server)
        artifacts = {
            artifact["key"].partition("-")[0]: artifact["id"] for artifact in server.ask("POST", "artifacts/filter", {})
        }
        ui = f"http://127.0.0.1:{server.port}/v2"
        see_form(page, f"{ui}/deployments/deployment/{deployment}/run", screenshots)
        ask_for_run(page, server)
        see_run(page, f"{ui}/runs/flow-run/{run['id']}", screenshots)
        see_summary(page, f"{ui}/artifacts/artifact/{artifacts['summary']}", screenshots)


def see_form(page: Browser, url: str, screenshots: Path) -> None:
    page.open(url)
    described = [field.description or "" for field in Settings.model_fields.values()]
    page.wait_for(*Settings.model_fields, *described)
    page.screenshot(screenshots / "form.png", 1300)


def ask_for_run(page: Browser, server: PrefectServer) -> None:
    page.fill("dataset", "synthetic")
    page.fill("min_genes", "5")
    page.fill("pca_dim", "0")
    page.click("Submit")
    assert page.run("return [...document.querySelectorAll('input:invalid')].map(field => field.value)") == ["0"]
    page.fill("pca_dim", "7")
    page.click("Submit")
    page.wait_until("a run", lambda: server.runs("sample"))
    (asked,) = server.runs("sample")
    assert settings_of(Settings, asked["parameters"]) == Settings(dataset="synthetic", min_genes=5, pca_dim=7)


def see_run(page: Browser, url: str, screenshots: Path) -> None:
    page.open(url)
    page.wait_for("simulated cells, 50 components, 10 clusters", "plan: done", "streaming: partition 1 of")
    page.click("Task Runs")
    page.wait_for("write small tables", "fit K-means", "embed data/train-00000-of-")
    page.click("Artifacts")
    page.wait_for("summary", "progress")
    page.screenshot(screenshots / "run.png", 1000)


def see_summary(page: Browser, url: str, screenshots: Path) -> None:
    page.open(url)
    page.wait_for("singular value", "of the variance", "peak memory")
    drawn = "[...document.images].filter(i => i.src.startsWith('data:image/png') && i.naturalWidth > 500)"
    page.wait_until("two pictures", lambda: page.run(f"return {drawn}.length") == 2)
    page.screenshot(screenshots / "summary.png", 1300)
    page.run(f"{drawn}[1].scrollIntoView()")
    page.screenshot(screenshots / "clusters.png", 1000)
