"""`--plan`: what a run would take, from pilots of the same flow; nothing of it stays."""

import os
import tempfile
from pathlib import Path
from typing import Any

import pytest

from flows.command_line import main
from flows.plan_command import Pilot, describe
from tasks.core.base.errors import StoreError
from tasks.core.base.settings import Settings
from tests.flows.conftest import Run
from tests.small_dataset import write_random_dataset


def pilot(cells: int, seconds: float, once: float = 0.0) -> Pilot:
    """A pilot of a second and a tenth of its cells in seconds, and what is done once."""
    stages = {"plan": 1.0, "svd": seconds / 2, "map": 3.0 + once}
    return Pilot(cells, seconds + 4 + once, 2 * seconds, stages, 10, 5 * 10**8, cells * 10**6, cells * 10**5)


def test_each_cost_is_a_line_through_two_pilots_and_what_is_done_once_is_added(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    pilots = [pilot(10, 10, once=6), pilot(10, 10), pilot(20, 20)]
    told = dict(line.split(maxsplit=1) for line in describe(2_020, pilots, Settings(workers=8), 0.5) if line.strip())
    # Two cores were measured, eight workers divide what grows: 200 times 10 s, a quarter of it.
    assert told["plan"] == "1.0 s"
    assert told["svd"].startswith("4.3 min")
    assert told["map"] == "9.0 s"
    assert told["in"].startswith("all           8.8 min  for stages work at the same time; 17.1 min where")
    assert told["core"] == "time         1.12 h  0.56 at 0.5 a core-hour"
    assert (told["store"], told["results"]) == ("2.02 GB", "0.20 GB")


def test_a_plan_runs_the_flow_on_a_few_cells_and_leaves_nothing(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flows.plan_command._PILOTS", (20, 20, 40))
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    dataset = write_random_dataset(tmp_path / "dataset")
    sizes = {"pca_dim": 2, "clusters": 2}
    for asked in ({"samples": "all"}, {"samples": 60, "where": "drug != 'x'"}):
        ran = run("--plan", dataset=dataset, plan_price=1, **asked, **sizes)
        assert ran.code == 0, ran.err
        lines = ran.out.splitlines()
        assert lines[0].startswith("60 cells by ")
        assert {line.split()[0] for line in lines if line} >= {"streaming", "svd", "export", "in", "store", "results"}
    monkeypatch.setattr("tasks.core.results.delivery.deliver", fail)
    failed = run("--plan", dataset=dataset, samples=60, **sizes)
    assert (failed.code, failed.err.splitlines()[-1]) == (1, "error: no place is left")
    assert not any(scratch.iterdir())
    assert not (tmp_path / "store").exists()
    assert not (tmp_path / "output").exists()


def fail(*_: Any) -> None:
    raise StoreError("no place is left")


def test_where_the_hub_is_out_of_reach_simulated_cells_stand_for_tahoe_s(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flows.plan_command._PILOTS", (20, 20, 40))
    monkeypatch.setattr("tasks.core.dataset.place.constants.ENDPOINT", "http://127.0.0.1:9")
    ran = run("--plan", "--join", samples="all", pca_dim=2, clusters=2, retries=0, keep_intermediates="none")
    assert ran.code == 0, ran.err
    assert "simulated cells stand for those of tahoebio/Tahoe-100M" in ran.out
    assert "95,624,334 cells by " in ran.out
    assert "on the way; in the end less, as --keep_intermediates says" in ran.out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--plan", "--plan_price", "-1"], "--plan_price -1: input should be greater than or equal to 0"),
        (["--plan_price", "1"], "--plan_price is about a plan: give --plan as well, or leave it out"),
    ],
)
def test_what_cannot_be_planned_is_told_in_one_line(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    said = capsys.readouterr()
    assert message in said.err
    assert len(said.err.strip().splitlines()) == 1
