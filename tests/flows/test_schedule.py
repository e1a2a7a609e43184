"""A schedule creates runs on a real server: guards the pins of fastapi and SQLAlchemy, which broke it in silence."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

_PATIENCE_SECONDS = 120


def wait_for(what: str, found: Callable[[], bool], seconds: float = _PATIENCE_SECONDS) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            if found():
                return
        except httpx.TransportError:
            pass
        time.sleep(0.5)
    pytest.fail(f"no {what} within {seconds} s")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[httpx.Client]:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    settings = {"PREFECT_HOME": str(tmp_path), "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
    # The UI asks the address that this says, whatever --port says.
    settings |= {"PREFECT_SERVER_API_PORT": str(port)}
    words = ["-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    with (
        (tmp_path / "log").open("w") as log,
        subprocess.Popen([sys.executable, *words], env=clean | settings, stdout=log, stderr=log) as process,
        httpx.Client(base_url=f"http://127.0.0.1:{port}/api/", timeout=10) as client,
    ):
        try:
            wait_for("server", lambda: client.get("health").is_success)
            yield client
        finally:
            process.terminate()


def test_a_schedule_creates_runs(server: httpx.Client) -> None:
    flow = server.post("flows/", json={"name": "cluster-cells"}).raise_for_status().json()
    schedule = {"schedule": {"cron": "0 3 * * *", "timezone": "Europe/Zurich"}, "active": True}
    deployment = {"name": "nightly", "flow_id": flow["id"], "schedules": [schedule]}
    # While the server starts its services, SQLite may be locked for a moment.
    wait_for("deployment", lambda: server.post("deployments/", json=deployment).is_success)
    wanted = {"flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}}}

    def scheduled() -> bool:
        return bool(server.post("flow_runs/filter", json=wanted).raise_for_status().json())

    wait_for("scheduled run", scheduled)
    assert scheduled()
