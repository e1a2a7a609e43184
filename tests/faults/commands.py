"""The command as a process that may come to harm, and the pieces of a store by which to tell what it did."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tasks.core.storage.files import Files
from tasks.core.storage.store import MANIFEST

ROOT = Path(__file__).resolve().parents[2]
RESULTS = (
    "embeddings.csv",
    "pca_variance.csv",
    "components.csv",
    "clusters.csv",
    "embeddings/part-00000.parquet",
    "components.parquet",
    "clusters.parquet",
)


@dataclass
class Command:
    """`flows/run.py` in a process group of its own.

    Attributes:
        lines: what it said on stderr so far.
    """

    words: list[str]
    environment: dict[str, str]
    lines: list[str] = field(default_factory=list)

    def start(self) -> None:
        """Begin."""
        self.process = subprocess.Popen(
            [sys.executable, str(ROOT / "flows" / "run.py"), *self.words],
            env=clean_environment() | self.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def read_lines(self, number: int) -> None:
        """Wait until it has said so many lines, or has ended."""
        assert self.process.stderr is not None
        while len(self.lines) < number and (line := self.process.stderr.readline()):
            self.lines.append(line.rstrip())

    def end(self) -> int:
        """Wait for its end and give its exit code."""
        self.read_lines(10**6)
        assert self.process.stderr is not None
        self.process.stderr.close()
        return self.process.wait()

    def kill(self) -> None:
        """End it and all that it started as a crash would."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.end()

    def kill_at_random(self, lines: int, rng: random.Random) -> None:
        """Kill it some time after one of the first so many lines that it says."""
        self.read_lines(rng.randrange(1, lines))
        time.sleep(rng.random() * 0.3)
        self.kill()


def command(settings: dict[str, object], environment: dict[str, str]) -> Command:
    """The command with these settings, begun."""
    made = Command([word for name, value in settings.items() for word in (f"--{name}", str(value))], environment)
    made.start()
    return made


def clean_environment() -> dict[str, str]:
    """The environment, without settings of Prefect or of a run."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "TAHOE_"))}


def results(output: str) -> dict[str, bytes]:
    """Bytes of the results."""
    files = Files(output, patience=5)
    return {name: files.read(name) or b"" for name in RESULTS}


def record(output: str) -> dict[str, Any]:
    """The record of the run that left the results."""
    read: dict[str, Any] = json.loads(Files(output, patience=5).read("run.json") or b"")
    return read


def finished(store: str) -> dict[str, float]:
    """When each stage's result that is finished was written."""
    return {entry.path: entry.modified for entry in Files(store, 5).walk() if entry.path.endswith(MANIFEST)}


def passes(manifests: Iterable[str]) -> int:
    """How many passes of the SVD have been finished and not yet used."""
    return sum(path.startswith("svd_pass/") for path in manifests)
