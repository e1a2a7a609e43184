"""`--plan` as a person starts it: nothing is run, nothing written, no network read, no Prefect imported."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from flows.command_line import main
from tests.core.forecast.test_forecast import RATES

# What would be a run's: a server, the Hub.
ALONE = """
import socket, sys
def refuse(*_): raise AssertionError("a plan reads no network")
socket.socket.connect = socket.getaddrinfo = refuse
from flows.command_line import main
code = main(sys.argv[1:])
assert not [name for name in sys.modules if name.partition(".")[0] == "prefect"]
sys.exit(code)
"""


@pytest.fixture
def rates(tmp_path: Path) -> Path:
    path = tmp_path / "rates.json"
    path.write_text(RATES.model_dump_json())
    return path


def test_the_plan_of_the_whole_of_tahoe_does_nothing(tmp_path: Path, rates: Path) -> None:
    words = ["--plan", "--samples", "all", "--workers", "16", "--plan_price", "0.05", "--plan_file", "plan.json"]
    root = Path(__file__).resolve().parents[2]
    code = f"import sys; sys.path.insert(0, {str(root)!r})\n{ALONE}"
    ran = subprocess.run(
        [sys.executable, "-c", code, *words, "--plan_rates", str(rates)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert "95,624,334 of 62,710 genes" in ran.stdout
    assert "--plan_network MB/s puts it there" in ran.stdout
    plan = json.loads((tmp_path / "plan.json").read_text())
    assert plan["extent"]["shards"] == 3_388
    assert [span["workers"] for span in plan["spans"]] == [16, 2, 32, 64]
    assert {path.name for path in tmp_path.iterdir()} == {"rates.json", "plan.json"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--plan", "--plan_price", "-1"], "--plan_price -1: input should be greater than or equal to 0"),
        (["--plan", "--plan_network", "0"], "--plan_network 0: input should be greater than 0"),
        (["--plan_price", "1"], "--plan_price is about a plan: give --plan as well, or leave it out"),
        (["--plan", "--dataset", "a/b"], "'a/b' is neither"),
        (["--plan", "--plan_file", "nowhere/plan.json"], "cannot write nowhere/plan.json: 'nowhere' is no folder"),
        (["--plan", "--plan_rates", "README.md"], "--plan_rates README.md holds no rates: Expecting value"),
    ],
)
def test_what_cannot_be_planned_is_told_in_one_line(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(Path(__file__).resolve().parents[2])
    assert main(words) == 2
    said = capsys.readouterr()
    assert message in said.err
    assert len(said.err.strip().splitlines()) == 1
