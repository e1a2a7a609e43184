"""A command that is stopped from its terminal, or by who runs it."""

import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from tests.flows.test_command import ROOT, server_url
from tests.small_dataset import write_random_dataset

__all__ = ["server_url"]

STOPPED = "error: stopped; the same command goes on from here"


@pytest.mark.parametrize(
    ("engine", "after", "stop"),
    [
        ("threads", "", signal.SIGTERM),
        ("threads", "Reporting", signal.SIGHUP),
        ("dask", "plan", signal.SIGHUP),
        ("dask", "svd", signal.SIGINT),
    ],
)
def test_a_run_is_stopped_in_one_line(
    tmp_path: Path, server_url: str, engine: str, after: str, stop: signal.Signals
) -> None:
    dataset = write_random_dataset(tmp_path / "dataset")
    words = ["--dataset", dataset, "--samples", 60, "--pca_dim", 5, "--clusters", 2, "--engine", engine]
    with subprocess.Popen(
        [sys.executable, "-v" if not after else "-B", str(ROOT / "flows" / "run.py"), *map(str, words)],
        cwd=tmp_path,
        env=os.environ | {"PREFECT_API_URL": server_url},
        stderr=subprocess.PIPE,
        text=True,
        # As a terminal does, to the processes that work for the run as well.
        start_new_session=True,
        # Whoever runs the tests may be one whom a closed terminal does not end, which is inherited.
        preexec_fn=partial(signal.signal, signal.SIGHUP, signal.SIG_DFL),  # noqa: PLW1509  (it takes no lock)
    ) as run:
        assert run.stderr is not None
        # Before it says a word of its own, Python tells what it imports.
        begun = after or "import 'numpy'"
        said = next(line for line in run.stderr if line.startswith(begun))
        os.killpg(run.pid, stop)
        rest = [line for line in run.stderr.read().splitlines() if not line.startswith(("#", "import "))]
    assert run.returncode == 130, said
    assert rest[-1] == STOPPED
    assert not [line for line in rest if "Traceback" in line or "Error" in line or "Exception" in line]


def test_a_signal_where_nothing_can_be_raised_stops_a_command_all_the_same() -> None:
    command = """
import signal, sys, time
from flows.stopping import stoppable

class Ended:
    def __del__(self):
        signal.raise_signal(signal.SIGTERM)

def run():
    Ended()
    time.sleep(60)

sys.exit(stoppable(run))
"""
    ran = subprocess.run(
        [sys.executable, "-c", command], cwd=ROOT, capture_output=True, text=True, timeout=50, check=False
    )
    assert ran.returncode == 130
    assert ran.stderr.splitlines() == [STOPPED]
