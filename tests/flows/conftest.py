"""Runs the command line inside the test, against the session's Prefect server."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from flows.command_line import main


@dataclass(frozen=True)
class Ran:
    code: int
    output: Path
    out: str
    err: str

    @property
    def record(self) -> dict[str, Any]:
        record: dict[str, Any] = json.loads((self.output / "run.json").read_text())
        return record

    def steps(self, kind: str) -> dict[str, int]:
        """Steps of each stage that were 'made' or found 'cached'."""
        return {cost["stage"]: cost[kind] for cost in self.record["stages"] if cost[kind]}


Run = Callable[..., Ran]


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str], prefect_server: None) -> Run:
    """Run a command with flags given by name; store and output are the test's own unless given."""

    def run_with(*command: str, **flags: object) -> Ran:
        given = {"store": tmp_path / "store", "output": tmp_path / "output"} | flags
        code = main([*command, *(word for name, value in given.items() for word in (f"--{name}", str(value)))])
        said = capsys.readouterr()
        return Ran(code, Path(str(given["output"])), said.out, said.err)

    return run_with


@pytest.fixture
def screenshots(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Where screenshots go: a folder of the test's own, unless one is asked for."""
    folder = Path(request.config.getoption("--screenshots") or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)
    return folder
