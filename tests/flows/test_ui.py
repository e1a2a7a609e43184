"""What a person sees in Prefect's UI, in a real browser: the form, a run's summary and its pictures."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from flows.cluster_cells import cluster_cells
from tasks.core.settings import Settings
from tests.browser import Browser, browser
from tests.flows.test_schedule import server, wait_for

__all__ = ["server"]
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def screenshots(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Where screenshots go: a folder of the test's own, unless one is asked for."""
    folder = Path(request.config.getoption("--screenshots") or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def deploy(server: httpx.Client) -> str:
    flow = server.post("flows/", json={"name": cluster_cells.name}).raise_for_status().json()
    wanted = {
        "name": "sample",
        "flow_id": flow["id"],
        "parameter_openapi_schema": cluster_cells.parameters.model_dump(),
        "enforce_parameter_schema": True,
    }
    # While the server starts its services, SQLite may be locked for a moment.
    wait_for("deployment", lambda: server.post("deployments/", json=wanted).is_success)
    return str(server.post("deployments/", json=wanted).raise_for_status().json()["id"])


def run_flow(server: httpx.Client, folder: Path, cells: int) -> dict[str, Any]:
    words = ["flows/run.py", "--dataset", "synthetic", "--samples", str(cells), "--partition_cells", str(cells // 2)]
    places = {"TAHOE_STORE": str(folder / "store"), "TAHOE_OUTPUT": str(folder / "results")}
    reach = {"PREFECT_API_URL": str(server.base_url).rstrip("/"), "PREFECT_HOME": str(folder)}
    subprocess.run([sys.executable, *words], cwd=ROOT, env=os.environ | places | reach, check=True, capture_output=True)
    (run,) = server.post("flow_runs/filter", json={}).raise_for_status().json()
    return dict(run)


def test_a_person_finds_the_form_the_summary_and_the_pictures(
    server: httpx.Client, tmp_path: Path, screenshots: Path, pytestconfig: pytest.Config
) -> None:
    cells = int(pytestconfig.getoption("--screenshot_cells"))
    deployment, run = deploy(server), run_flow(server, tmp_path, cells)
    found = server.post("artifacts/filter", json={}).raise_for_status().json()
    artifacts = {artifact["key"]: artifact["id"] for artifact in found}
    ui = str(server.base_url.join("/v2"))
    with browser(tmp_path / "profile") as page:
        see_form(page, f"{ui}/deployments/deployment/{deployment}/run", screenshots)
        see_run(page, f"{ui}/runs/flow-run/{run['id']}", screenshots)
        see_summary(page, f"{ui}/artifacts/artifact/{artifacts['summary']}", screenshots)


def see_form(page: Browser, url: str, screenshots: Path) -> None:
    page.open(url)
    described = [field.description or "" for field in Settings.model_fields.values()]
    page.wait_for(*Settings.model_fields, *described)
    page.screenshot(screenshots / "form.png", 1300)


def see_run(page: Browser, url: str, screenshots: Path) -> None:
    page.open(url)
    page.wait_for("simulated cells, 50 components, 10 clusters", "plan: done", "streaming: partition 1 of")
    page.click("Task Runs")
    page.wait_for("write results", "fit K-means", "embed data/train-00000-of-")
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
