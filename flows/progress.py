"""How far a run is, as Prefect's UI shows it: lines in the run's log, and a bar that moves."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import cast
from uuid import UUID

from prefect import get_run_logger
from prefect.artifacts import create_progress_artifact, update_progress_artifact

from flows.artifacts import key_of, not_vital
from tasks.core.base.progress import Gauge, Progress, Sparsely, heard_by

# Each update takes the server some hundredths of a second.
_SECONDS_BETWEEN = 2.0
# Of all partitions or passes of a stage, the log tells of so many.
_LINES = 10


@contextmanager
def told_to_prefect(shares: Mapping[str, float]) -> Iterator[None]:
    """Tell the flow run at hand of its progress.

    Args:
        shares: of each stage in the work of a run, in the order in which they run.
    """
    bar = _Bar(Gauge(shares))
    with heard_by(Sparsely(_log, _LINES)), heard_by(bar.show):
        yield
    bar.end()


def _log(step: Progress) -> None:
    get_run_logger().info("%s", step)


class _Bar:
    """A progress artifact; once the server fails to take it, it is left alone."""

    def __init__(self, gauge: Gauge) -> None:
        self._gauge = gauge
        self._artifact: UUID | None = None
        with not_vital("the progress bar"):
            # Typed for both kinds of flows; in one that is not async it is the id.
            self._artifact = cast("UUID", create_progress_artifact(0.0, key=key_of("progress"), description="begun"))
        self._due = time.monotonic()

    def show(self, step: Progress) -> None:
        share = self._gauge.read(step)
        if time.monotonic() >= self._due:
            self._send(100.0 * share, str(step))

    def end(self) -> None:
        self._send(100.0, "done")

    def _send(self, percent: float, description: str) -> None:
        if self._artifact is None:
            return
        artifact, self._artifact = self._artifact, None
        with not_vital("the progress"):
            update_progress_artifact(artifact, percent, description)
            self._artifact = artifact
        self._due = time.monotonic() + _SECONDS_BETWEEN
