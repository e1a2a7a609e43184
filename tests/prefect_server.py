"""A real Prefect server on loopback, with its services: started by the tests and stopped by them."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.s3_server import free_ports

ROOT = Path(__file__).resolve().parents[1]
_PATIENCE_SECONDS = 120.0
_END_SECONDS = 30
# As a recurring server should be set, and quick to look again where it would wait.
_SETTINGS = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
    "PREFECT_SERVER_DEPLOYMENTS_CONCURRENCY_SLOT_WAIT_SECONDS": "1",
    "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "2",
    "PREFECT_RUNNER_POLL_FREQUENCY": "1",
    "PREFECT_WORKER_QUERY_SECONDS": "1",
}


def wait_for(what: str, found: Callable[[], Any], seconds: float = _PATIENCE_SECONDS) -> Any:
    """What is found once it is there."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            if it := found():
                return it
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    return pytest.fail(f"no {what} within {seconds} s")


def environment_without_prefect() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}


def copy_checkout(folder: Path, deployments: str) -> Path:
    """Put in a folder what runs need of this checkout, with other deployments."""
    for name in ("flows", "tasks", "deployments"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "prefect.yaml").write_text(deployments)
    return folder


@contextmanager
def running(words: list[str], environment: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A command that runs as long as the block."""
    with (
        log.open("a") as out,
        subprocess.Popen([sys.executable, *words], cwd=ROOT, env=environment, stdout=out, stderr=out) as process,
    ):
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(_END_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()


class PrefectServer:
    """One server; may be stopped and started again on the same data.

    Args:
        home: for its data, empty at first.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        (self.port,) = free_ports(1)
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.port}/api/", timeout=10)

    @property
    def environment(self) -> dict[str, str]:
        """What those who speak to it, and it itself, find in theirs."""
        where = {"PREFECT_HOME": str(self.home), "PREFECT_API_URL": f"http://127.0.0.1:{self.port}/api"}
        return environment_without_prefect() | _SETTINGS | where

    @contextmanager
    def up(self) -> Iterator[subprocess.Popen[bytes]]:
        words = ["-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(self.port)]
        with running(words, self.environment, self.home / "server.log") as process:
            wait_for("server", lambda: self.client.get("health").is_success)
            yield process

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """The answer to a request that must succeed; while SQLite is locked the server wants to be asked again."""

        def answer() -> Any:
            given = self.client.request(method, path, json=body)
            return None if given.status_code == httpx.codes.SERVICE_UNAVAILABLE else given

        given = wait_for("answer", answer).raise_for_status()
        return given.json() if given.content else None

    def deployment(self, name: str) -> dict[str, Any]:
        (found,) = self.ask("POST", "deployments/filter", {"deployments": {"name": {"any_": [name]}}})
        return dict(found)

    def click_run(self, name: str, **parameters: object) -> str:
        """Ask for a run as the UI does, and give its id."""
        state = {"type": "SCHEDULED", "message": "Run from the UI with custom parameters"}
        body = {"state": state, "parameters": parameters}
        made = self.ask("POST", f"deployments/{self.deployment(name)['id']}/create_flow_run", body)
        return str(made["id"])

    def runs(self, name: str) -> list[dict[str, Any]]:
        """Every run of a deployment."""
        of_it = {"id": {"any_": [self.deployment(name)["id"]]}}
        found: list[dict[str, Any]] = self.ask("POST", "flow_runs/filter", {"deployments": of_it})
        return found

    def states(self, run: str) -> list[dict[str, Any]]:
        """The states of a run, the first one first."""
        found: list[dict[str, Any]] = self.ask("GET", f"flow_run_states/?flow_run_id={run}")
        return sorted(found, key=lambda state: state["timestamp"])

    def end_of(self, run: str) -> dict[str, Any]:
        """The state that a run ends in."""

        def ended() -> Any:
            state = self.ask("GET", f"flow_runs/{run}")["state"]
            return state if state["type"] in {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"} else None

        found: dict[str, Any] = wait_for("end of the run", ended)
        return found
