"""A Hub that answers badly: retried, and what comes out is what a clean read gives."""

import random
import threading
import time
from collections import Counter
from itertools import cycle
from pathlib import Path

import pytest

from tests.faults.commands import Command, command, results
from tests.faults.tally import fault
from tests.hub_server import HubServer

SETTINGS: dict[str, object] = {"samples": 3_000, "pca_dim": 10, "clusters": 3, "partition_cells": 1_000}
# Seconds after which the Hub's client gives up a read.
TIMEOUT = 2


class FlakyHub(HubServer):
    """Times out, refuses, hangs up and breaks off, seeded; never two times in a row for the same request.

    Attributes:
        harms: how often it did what.
    """

    def __init__(self, folder: Path, seed: int, share: float) -> None:
        super().__init__(folder)
        self.rng, self.share = random.Random(seed), share
        self.lock = threading.Lock()
        self.failed: set[tuple[str, str]] = set()
        self.harms: Counter[str] = Counter()

    def fault(self, method: str, path: str) -> int | None:
        with self.lock:
            if (method, path) in self.failed or self.rng.random() > self.share:
                self.failed.discard((method, path))
                return None
            self.failed.add((method, path))
            kind = self.rng.choice(["429", "500", "503", "hangs up", "is slow", "times out"])
            self.harms[kind] += 1
        if kind == "hangs up":
            raise ConnectionError
        if kind in ("is slow", "times out"):
            time.sleep(TIMEOUT * (0.5 if kind == "is slow" else 1.5))
            return None
        return int(kind)

    def refusal(self, status: int) -> dict[str, str]:
        return {"Retry-After": "1"} if status == 429 else {}

    def cut(self, size: int) -> int:
        with self.lock:
            if size > 10_000 and self.rng.random() < self.share / 2:
                self.harms["breaks off"] += 1
                return size // 2
        return size


class BusyHub(HubServer):
    """Refuses each request the first time, and says for how long, by one header or another in turn.

    Attributes:
        refused: when it has refused what.
        early: what was asked again before it was time.
    """

    def __init__(self, folder: Path, seconds: int) -> None:
        super().__init__(folder)
        self.seconds = seconds
        self.headers = cycle([{"Retry-After": f"{seconds}"}, {"RateLimit": f'"api";r=0;t={seconds}'}])
        self.refused: dict[tuple[str, str], float] = {}
        self.early: list[tuple[str, str]] = []

    def fault(self, method: str, path: str) -> int | None:
        now = time.monotonic()
        refused = self.refused.setdefault((method, path), now)
        if refused == now:
            return 429
        if now < refused + self.seconds:
            self.early.append((method, path))
        return None

    def refusal(self, status: int) -> dict[str, str]:
        return next(self.headers)


class MovingHub(HubServer):
    """Is at a new commit after every few requests."""

    def fault(self, method: str, path: str) -> int | None:
        if len(self.requests) % 5 == 4:
            self.move()
        return None


@pytest.fixture(scope="module")
def clean(simulated: Path, tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]) -> dict[str, bytes]:
    return run_on(HubServer(simulated), tmp_path_factory.mktemp("hub") / "clean", environment)


def start_on(hub: HubServer, folder: Path, environment: dict[str, str], **flags: object) -> Command:
    folder.mkdir()
    places = {"store": folder / "store", "output": folder / "output"}
    reach = environment | hub.environment(folder / "hub") | {"HF_HUB_DOWNLOAD_TIMEOUT": str(TIMEOUT)}
    return command(SETTINGS | places | flags, reach)


def run_on(hub: HubServer, folder: Path, environment: dict[str, str]) -> dict[str, bytes]:
    with hub:
        ran = start_on(hub, folder, environment)
        assert ran.end() == 0, ran.lines
    return results(str(folder / "output"))


@pytest.mark.most_faults(10)
def test_a_flaky_hub_gives_what_a_clean_one_gives(
    simulated: Path, clean: dict[str, bytes], tmp_path: Path, environment: dict[str, str], faults: int
) -> None:
    for seed in range(faults):
        hub = FlakyHub(simulated, seed, share=0.4)
        with fault("flaky Hub: runs"):
            assert run_on(hub, tmp_path / f"flaky-{seed}", environment) == clean
            assert hub.harms
        for kind, number in hub.harms.items():
            with fault(f"flaky Hub: {'answers ' if kind.isdigit() else ''}{kind}", number):
                pass


def test_a_revision_that_moves_during_a_run_does_not_change_it(
    simulated: Path, clean: dict[str, bytes], tmp_path: Path, environment: dict[str, str]
) -> None:
    hub = MovingHub(simulated)
    at_first = hub.commit
    with fault("a revision that moves"):
        assert run_on(hub, tmp_path / "moving", environment) == clean
    assert hub.commit != at_first
    streamed = {request.path.split("/resolve/")[1].split("/")[0] for request in hub.requests if "data/" in request.path}
    assert len(streamed) == 1


def test_a_hub_that_says_when_to_come_again_is_obeyed(
    simulated: Path, clean: dict[str, bytes], tmp_path: Path, environment: dict[str, str]
) -> None:
    hub = BusyHub(simulated, 1)
    with fault("429 with a wait"):
        assert run_on(hub, tmp_path / "busy", environment) == clean
        assert len(hub.refused) > 5
        assert not hub.early


def test_a_hub_that_wants_too_long_a_wait_is_told_at_once(
    simulated: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    hub = BusyHub(simulated, 3600)
    with fault("429 with a wait that is too long"), hub:
        ran = start_on(hub, tmp_path / "busy", environment, retries=0)
        assert ran.end() == 1
        assert "asks to wait 3,600 s, after 0 s of waiting: 600 s are the most; run again later" in ran.lines[-1]
        assert ran.lines[-1].startswith("error: ")
