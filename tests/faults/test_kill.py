"""Killed at any moment, the same command goes on: it makes nothing twice, and its results are those of a clean run."""

import random
import threading
from pathlib import Path

import pytest

from tasks.core.results.housekeeping import verify
from tasks.core.storage.store import Store
from tests.conftest import real_cells
from tests.faults.commands import Command, command, finished, passes, results
from tests.faults.tally import fault
from tests.s3_server import BUCKET, S3Server

SETTINGS: dict[str, object] = {
    "samples": 3_000,
    "pca_dim": 20,
    "clusters": 5,
    "partition_cells": 1_000,
    "block_cells": 500,
}

# On real cells, without the map, whose library takes ten seconds to start.
ATLAS: dict[str, object] = {"recipe": "atlas", "samples": "all", "clusters": "5,8", "pca_dim": 10, "layout": "none"}

# What runs at once ask for.
AT_ONCE: tuple[tuple[dict[str, object], ...], ...] = (
    ({}, {}),
    ({}, {"pca_dim": 10}, {"clusters": 4}, {"samples": 2_000}),
    ({}, {}, {}, {}),
)


def settings(dataset: Path, place: str, output: str) -> dict[str, object]:
    return SETTINGS | {"dataset": dataset, "store": f"{place}/store", "output": f"{place}/{output}"}


class Undisturbed:
    """Runs that nothing happens to, each made once."""

    def __init__(self, dataset: Path, place: str, environment: dict[str, str]) -> None:
        self.dataset, self.place, self.environment = dataset, place, environment
        self.ran: dict[str, Command] = {}

    def results(self, variant: dict[str, object]) -> dict[str, bytes]:
        """Bytes of its results."""
        place = f"{self.place}/{len(self.ran)}"
        if str(variant) not in self.ran:
            ran = self.ran[str(variant)] = command(settings(self.dataset, place, "output") | variant, self.environment)
            assert ran.end() == 0, ran.lines
        return results(f"{self.place}/{list(self.ran).index(str(variant))}/output")

    def lines(self, variant: dict[str, object]) -> int:
        """How many lines it says."""
        self.results(variant)
        return len(self.ran[str(variant)].lines)


@pytest.fixture(scope="module")
def undisturbed(simulated: Path, tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]) -> Undisturbed:
    return Undisturbed(simulated, str(tmp_path_factory.mktemp("undisturbed")), environment)


def went_on(
    given: dict[str, object], environment: dict[str, str], expected: dict[str, bytes]
) -> tuple[dict[str, float], Command]:
    """Run a command that was killed again: it makes nothing twice. Gives what had been finished, and the command."""
    before = finished(str(given["store"]))
    again = command(given, environment)
    assert again.end() == 0, again.lines
    after = finished(str(given["store"]))
    assert results(str(given["output"])) == expected
    kept = {path: when for path, when in before.items() if not path.startswith(("svd_pass/", "tokens/"))}
    assert {path: after[path] for path in kept} == kept
    return before, again


def test_a_killed_run_goes_on(
    simulated: Path, place: str, undisturbed: Undisturbed, environment: dict[str, str], faults: int
) -> None:
    expected, rng = undisturbed.results({}), random.Random(0)
    for number in range(faults):
        given = settings(simulated, f"{place}-{number}", "output")
        with fault(f"kill -9: {'s3' if place.startswith('s3:') else 'local'}"):
            command(given, environment).kill_at_random(undisturbed.lines({}), rng)
            before, again = went_on(given, environment, expected)
            first_pass = next((line for line in again.lines if line.startswith("svd: pass")), None)
            if first_pass is not None:
                assert first_pass.startswith(f"svd: pass {passes(before) + 1},")


@pytest.mark.most_faults(20)
def test_a_killed_run_of_the_atlas_goes_on(
    tmp_path: Path, undisturbed: Undisturbed, environment: dict[str, str], faults: int
) -> None:
    variant = ATLAS | {"dataset": real_cells("mixology-thin")}
    expected, rng = undisturbed.results(variant), random.Random(2)
    for number in range(faults):
        given = settings(tmp_path, str(tmp_path / str(number)), "output") | variant
        with fault("kill -9: atlas"):
            command(given, environment).kill_at_random(undisturbed.lines(variant), rng)
            went_on(given, environment, expected)


@pytest.mark.most_faults(10)
def test_a_store_s_server_that_is_killed_and_comes_back_is_outlived(
    simulated: Path,
    tmp_path: Path,
    undisturbed: Undisturbed,
    environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    faults: int,
) -> None:
    expected, lines = undisturbed.results({}), undisturbed.lines({})
    server = S3Server(tmp_path)
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    server.start()
    rng = random.Random(1)
    try:
        for number in range(faults):
            given = settings(simulated, f"s3://{BUCKET}/{number}", "output")
            running = command(given, environment)
            with fault("kill -9 of the S3 server"):
                running.read_lines(rng.randrange(2, lines))
                server.kill()
                back = threading.Timer(2, server.start)
                back.start()
                assert running.end() == 0, running.lines
                back.join()
                assert results(str(given["output"])) == expected
    finally:
        server.kill()


def test_runs_at_once_on_one_store_are_all_right(
    simulated: Path, place: str, undisturbed: Undisturbed, environment: dict[str, str], faults: int
) -> None:
    for turn, variants in enumerate(AT_ONCE[:faults]):
        at = f"{place}-{turn}"
        outputs = [f"{at}/output-{number}" for number in range(len(variants))]
        with fault(f"{len(variants)} runs at once"):
            given = [settings(simulated, at, f"output-{number}") | one for number, one in enumerate(variants)]
            running = [command(one, environment) for one in given]
            assert [run.end() for run in running] == [0] * len(variants), [run.lines[-1] for run in running]
            assert [results(output) for output in outputs] == [undisturbed.results(one) for one in variants]
            assert list(verify(Store(f"{at}/store"), pytest.fail)) == []
