"""What the tests of faults share, and the table of what they did."""

from pathlib import Path

import pytest
from prefect.settings import get_current_settings

from tasks.core.dataset.synthetic import write_dataset
from tests.faults import tally


@pytest.fixture(scope="session")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three thousand simulated cells, or a few more."""
    return write_dataset(tmp_path_factory.mktemp("simulated"), 3_000, seed=3)


@pytest.fixture(scope="session")
def environment(prefect_server: None) -> dict[str, str]:
    """What a command must find to report to the tests' Prefect server."""
    return {"PREFECT_API_URL": get_current_settings().api.url or ""}


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many faults of each kind were done and passed."""
    lines = tally.table()
    if lines:
        terminalreporter.section("faults")
    for line in lines:
        terminalreporter.write_line(line)
