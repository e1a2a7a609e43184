"""Killed at any moment, the same command goes on: it makes nothing twice, and its results are those of a clean run."""

import random
import threading
from pathlib import Path

import pytest
from prefect.settings import get_current_settings

from tests.faults.commands import command, finished, passes, results
from tests.s3_server import BUCKET, S3Server

SETTINGS: dict[str, object] = {
    "samples": 3_000,
    "pca_dim": 20,
    "clusters": 5,
    "partition_cells": 1_000,
    "block_cells": 500,
}


@pytest.fixture
def environment(prefect_server: None) -> dict[str, str]:
    return {"PREFECT_API_URL": get_current_settings().api.url or ""}


def settings(dataset: Path, place: str, output: str) -> dict[str, object]:
    return SETTINGS | {"dataset": dataset, "store": f"{place}/store", "output": f"{place}/{output}"}


def test_a_killed_run_goes_on(
    simulated: Path, place: str, tmp_path: Path, environment: dict[str, str], faults: int
) -> None:
    clean = command(settings(simulated, str(tmp_path / "clean"), "output"), environment)
    assert clean.end() == 0
    expected = results(str(tmp_path / "clean" / "output"))
    rng = random.Random(0)
    for number in range(faults):
        given = settings(simulated, f"{place}-{number}", "output")
        command(given, environment).kill_at_random(len(clean.lines), rng)
        before = finished(str(given["store"]))
        again = command(given, environment)
        assert again.end() == 0, again.lines
        after = finished(str(given["store"]))
        assert results(str(given["output"])) == expected
        kept = {path: when for path, when in before.items() if not path.startswith("svd_pass/")}
        assert {path: after[path] for path in kept} == kept
        first_pass = next((line for line in again.lines if line.startswith("svd: pass")), None)
        if first_pass is not None:
            assert first_pass.startswith(f"svd: pass {passes(before) + 1},")


def test_a_store_s_server_that_is_killed_and_comes_back_is_outlived(
    simulated: Path, tmp_path: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, faults: int
) -> None:
    clean = command(settings(simulated, str(tmp_path / "clean"), "output"), environment)
    assert clean.end() == 0
    server = S3Server(tmp_path)
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    server.start()
    rng = random.Random(1)
    try:
        for number in range(faults):
            given = settings(simulated, f"s3://{BUCKET}/{number}", "output")
            running = command(given, environment)
            running.read_lines(rng.randrange(2, len(clean.lines)))
            server.kill()
            back = threading.Timer(2, server.start)
            back.start()
            assert running.end() == 0, running.lines
            back.join()
            assert results(str(given["output"])) == results(str(tmp_path / "clean" / "output"))
    finally:
        server.kill()


def test_runs_at_once_on_one_store_are_all_right(
    simulated: Path, s3_server: S3Server, tmp_path: Path, environment: dict[str, str], faults: int
) -> None:
    variants: list[dict[str, object]] = [{}, {"pca_dim": 10}, {}, {"clusters": 4}, {"samples": 2_000}]
    del variants[2 if faults == 1 else 5 :]
    place, running = f"s3://{BUCKET}/at-once", []
    for number, variant in enumerate(variants):
        given = settings(simulated, place, f"output-{number}") | variant
        running.append(command(given, environment))
    assert [run.end() for run in running] == [0] * len(variants), [run.lines[-1] for run in running]
    for number, variant in enumerate(variants):
        alone = settings(simulated, str(tmp_path / f"alone-{number}"), "output") | variant
        assert command(alone, environment).end() == 0
        assert results(f"{place}/output-{number}") == results(str(alone["output"]))
