"""One real server for all tests of the deployments, and one worker that runs them."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.prefect_server import ROOT, PrefectServer, running


class Served(PrefectServer):
    """A server, and on it what `prefect.yaml` deploys."""

    def __init__(self, home: Path, held: ExitStack) -> None:
        super().__init__(home)
        self._held = held
        self._process = held.enter_context(self.up())

    def crash_and_start(self) -> None:
        """Kill the server in whatever it does, and start it again."""
        self._process.kill()
        self._held.close()
        self._process = self._held.enter_context(self.up())


def prefect(server: PrefectServer, *words: str, cwd: Path = ROOT) -> str:
    """Run one of Prefect's commands, and give what it printed."""
    command = [sys.executable, "-m", "prefect", "--no-prompt", *words]
    ran = subprocess.run(
        command, cwd=cwd, env=server.environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    home = tmp_path_factory.mktemp("prefect")
    with ExitStack() as held:
        server = Served(home, held)
        prefect(server, "work-pool", "create", "cells", "--type", "process")
        prefect(server, "deploy", "--all")
        with running(["-m", "prefect", "worker", "start", "--pool", "cells"], server.environment, home / "worker.log"):
            yield server
        server.client.close()


@pytest.fixture
def places(tmp_path: Path) -> dict[str, str]:
    """Where a run of this test leaves what it makes."""
    return {"store": str(tmp_path / "store"), "output": str(tmp_path / "output")}
