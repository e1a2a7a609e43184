import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.deployments.conftest import Served
from tests.prefect_server import ROOT, wait_for
from tests.small_dataset import cell, gene_table, random_cells, table_of, write_dataset


class Hook(HTTPServer):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[dict[str, Any]] = []
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(BaseHTTPRequestHandler):
    server: Hook

    def do_POST(self) -> None:
        self.server.told.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (the name is the base's)
        pass


@pytest.fixture
def hook() -> Iterator[Hook]:
    with Hook() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


README = (ROOT / "deployments" / "README.md").read_text()


def create(served: Served, script: str, folder: Path, given: str = "") -> None:
    """Run commands as a person does in the root of the checkout, but for the file that they leave."""
    script = script.replace("automations.yaml > automations.yaml", f"automations.yaml > {folder}/automations.yaml")
    script = script.replace("--from-file automations.yaml", f"--from-file {folder}/automations.yaml")
    path = f"{Path(sys.executable).parent}:{served.environment['PATH']}"
    environment = served.environment | {"PATH": path}
    subprocess.run(["bash", "-ec", script], cwd=ROOT, env=environment, input=given, text=True, check=True)


def test_a_webhook_hears_of_a_failed_run_and_of_one_with_skipped_data(
    served: Served, hook: Hook, places: dict[str, str], tmp_path: Path
) -> None:
    (script,) = re.findall(r"```sh\n(WEBHOOK=.*?)```", README, re.DOTALL)
    create(served, script, tmp_path, f"http://127.0.0.1:{hook.server_port}/secret\n")
    automations = served.ask("POST", "automations/filter", {})
    assert len(automations) == 4
    assert "/secret" not in json.dumps(automations)

    cells = [cell({9: 0.5}), *random_cells(59, 40)]
    dataset = write_dataset(tmp_path / "dataset", [table_of(cells)], gene_table(40))
    small = {"dataset": str(dataset), "samples": 60, "clusters": 2}
    failed = served.click_run("on-demand", **small, **places, pca_dim=500)
    others: dict[str, Any] = {name: f"{place}-2" for name, place in places.items()}
    skipping = others | {"trouble": {"on_bad_data": "skip", "most_skipped": 0.5}}
    skipped = served.click_run("full-weekly", **small, **skipping, pca_dim=5, keeping={"keep_intermediates": "all"})
    # What the form lets pass, the run refuses with the form's words.
    assert "pca_dim 500" in served.end_of(failed)["message"]
    assert served.end_of(skipped)["name"] == "Skipped data"

    wait_for("calls of the webhook", lambda: len(hook.told) >= 2)
    told = {call["state"]: call for call in hook.told}
    assert set(told) == {"Failed", "Skipped data"}
    assert "pca_dim 500" in told["Failed"]["text"]
    assert failed in told["Failed"]["url"]


def test_the_one_for_silent_runs_is_taken_as_it_stands(served: Served, tmp_path: Path) -> None:
    create(served, "prefect automation create --from-file deployments/automations-postgres.yaml", tmp_path)
    (silent,) = (one for one in served.ask("POST", "automations/filter", {}) if "no sign of life" in one["name"])
    # Later tests run on SQLite.
    served.ask("DELETE", f"automations/{silent['id']}")
    assert (silent["trigger"]["posture"], silent["trigger"]["within"]) == ("Proactive", 600)
