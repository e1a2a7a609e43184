"""A Hub that answers badly: retried, and what comes out is what a clean read gives."""

import random
import threading
import time
from pathlib import Path

import pytest
from prefect.settings import get_current_settings

from tests.faults.commands import command, results
from tests.hub_server import HubServer

SETTINGS: dict[str, object] = {"samples": 3_000, "pca_dim": 10, "clusters": 3, "partition_cells": 1_000}


class FlakyHub(HubServer):
    """Times out, refuses, hangs up and breaks off, seeded; never two times in a row for the same request."""

    def __init__(self, folder: Path, seed: int, share: float) -> None:
        super().__init__(folder)
        self.rng, self.share = random.Random(seed), share
        self.lock = threading.Lock()
        self.failed: set[tuple[str, str]] = set()
        self.harmed = 0

    def fault(self, method: str, path: str) -> int | None:
        with self.lock:
            if (method, path) in self.failed or self.rng.random() > self.share:
                self.failed.discard((method, path))
                return None
            self.failed.add((method, path))
            self.harmed += 1
            kind = self.rng.choice(["429", "500", "503", "hang up", "slow"])
        if kind == "hang up":
            raise ConnectionError
        if kind == "slow":
            time.sleep(1.0)
            return None
        return int(kind)

    def cut(self, size: int) -> int:
        with self.lock:
            if size > 10_000 and self.rng.random() < self.share / 2:
                self.harmed += 1
                return size // 2
        return size


class MovingHub(HubServer):
    """Is at a new commit after every few requests."""

    def fault(self, method: str, path: str) -> int | None:
        if len(self.requests) % 5 == 4:
            self.move()
        return None


@pytest.fixture
def clean(simulated: Path, tmp_path: Path, prefect_server: None) -> dict[str, bytes]:
    return run_on(HubServer(simulated), tmp_path / "clean")


def run_on(hub: HubServer, folder: Path) -> dict[str, bytes]:
    folder.mkdir()
    places = {"store": folder / "store", "output": folder / "output"}
    with hub:
        reach = hub.environment(folder / "hub") | {"PREFECT_API_URL": get_current_settings().api.url or ""}
        ran = command(SETTINGS | places, reach)
        assert ran.end() == 0, ran.lines
    return results(str(folder / "output"))


def test_a_flaky_hub_gives_what_a_clean_one_gives(
    simulated: Path, clean: dict[str, bytes], tmp_path: Path, faults: int
) -> None:
    for seed in range(faults):
        hub = FlakyHub(simulated, seed, share=0.2)
        assert run_on(hub, tmp_path / f"flaky-{seed}") == clean
        assert hub.harmed


def test_a_revision_that_moves_during_a_run_does_not_change_it(
    simulated: Path, clean: dict[str, bytes], tmp_path: Path
) -> None:
    hub = MovingHub(simulated)
    at_first = hub.commit
    assert run_on(hub, tmp_path / "moving") == clean
    assert hub.commit != at_first
    streamed = {request.path.split("/resolve/")[1].split("/")[0] for request in hub.requests if "data/" in request.path}
    assert len(streamed) == 1
