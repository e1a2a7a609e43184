"""One real server for all tests of the deployments, and one process that serves them."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.prefect_server import PrefectServer, running, wait_for


class Served(PrefectServer):
    """A server, and on it what `deployments/serve.py` serves."""

    def __init__(self, home: Path, held: ExitStack) -> None:
        super().__init__(home)
        self._held = held
        self._process = held.enter_context(self.up())

    def crash_and_start(self) -> None:
        """Kill the server in whatever it does, and start it again."""
        self._process.kill()
        self._held.close()
        self._process = self._held.enter_context(self.up())


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    home = tmp_path_factory.mktemp("prefect")
    with ExitStack() as held:
        server = Served(home, held)
        with running(["deployments/serve.py"], server.environment, home / "served.log"):
            wait_for("deployments", lambda: server.client.get("deployments/name/cluster-cells/full-weekly").is_success)
            yield server
        server.client.close()


@pytest.fixture
def places(tmp_path: Path) -> dict[str, str]:
    """Where a run of this test leaves what it makes."""
    return {"store": str(tmp_path / "store"), "output": str(tmp_path / "output")}
