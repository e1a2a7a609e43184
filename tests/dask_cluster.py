"""A Dask cluster of real processes, which tests may harm."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

ROOT = Path(__file__).resolve().parents[1]
_START_SECONDS = 60.0
_CONFIGURED = {
    # A worker near its limit would wait for memory, for ever where it is what its libraries take.
    "DASK_DISTRIBUTED__WORKER__MEMORY__PAUSE": "False",
    # As the README has it.
    "DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED": "False",
    "DASK_DISTRIBUTED__ADMIN__TICK__INTERVAL": "1s",
}


@dataclass
class DaskCluster:
    """A scheduler, and workers as they are asked for.

    Attributes:
        folder: for what they leave.
        workers: one a process that was started; with a nanny, that is the nanny's.
    """

    folder: Path
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def address(self) -> str:
        """Where the scheduler is."""
        return str(json.loads(self._file.read_text())["address"])

    def start(self) -> Self:
        """Start the scheduler."""
        words = ["scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard"]
        self.scheduler = self._start(*words, "--scheduler-file", str(self._file))
        until = time.monotonic() + _START_SECONDS
        while not self._file.exists():
            assert time.monotonic() < until, "the scheduler did not start"
            time.sleep(0.05)
        return self

    def add_workers(self, number: int, *words: str) -> Self:
        """Start workers of one thread each; without a nanny unless told otherwise."""
        options = ["--nthreads", "1", "--no-dashboard", "--host", "127.0.0.1", *(words or ("--no-nanny",))]
        for _ in range(number):
            self.workers.append(self._start("worker", self.address, *options, "--local-directory", str(self.folder)))
        return self

    def kill_worker(self) -> None:
        """End the worker that was started last, as a crash would."""
        _kill(self.workers.pop())

    def stop(self) -> None:
        """End all."""
        for process in (*self.workers, self.scheduler):
            _kill(process)

    @property
    def _file(self) -> Path:
        return self.folder / "scheduler.json"

    def _start(self, *words: str) -> subprocess.Popen[bytes]:
        self.folder.mkdir(exist_ok=True)
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "dask", *words],
                cwd=ROOT,
                env=os.environ | {"PYTHONPATH": str(ROOT)} | _CONFIGURED,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )


def _kill(process: subprocess.Popen[bytes]) -> None:
    # With what it started: a nanny's worker.
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@contextmanager
def dask_cluster(folder: Path) -> Iterator[DaskCluster]:
    """Give a scheduler without workers, which ends with the block."""
    cluster = DaskCluster(folder).start()
    try:
        yield cluster
    finally:
        cluster.stop()
