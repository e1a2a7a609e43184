"""Processes of this machine that work for a run."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from contextvars import copy_context
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from flows.engines.begin import Beginning, end_without_parent
from flows.engines.sent import Answer, Shared, call
from tasks.core.base.errors import EngineError
from tasks.core.base.progress import heard_by, report
from tasks.core.numerics.workers import Workers

_BROKEN = (
    "a worker process is gone: killed, or out of memory; what is finished is kept: the same command goes on from "
    "there, with less memory if --workers or --block_cells is lower"
)


class Processes(Workers):
    """Worker processes; what they share lies in files of a folder."""

    def __init__(self, pool: ProcessPoolExecutor, number: int, folder: Path) -> None:
        self._pool, self._number, self._folder = pool, number, folder

    @property
    def ahead(self) -> int:
        """Two more than there are processes: while one fetches its next call, another may need one as well."""
        return self._number + 2

    @contextmanager
    def share(self, value: Any) -> Iterator[Shared]:
        """Leave a value in a file."""
        shared = Shared.of(value).into(self._folder)
        try:
            yield shared
        finally:
            (self._folder / shared.name).unlink()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Call a function in one of the processes."""
        try:
            return Answer(self._pool.submit(call, fn, *args, **kwargs), _explain)
        except BrokenProcessPool:
            raise EngineError(_BROKEN) from None


def _explain(error: BaseException) -> EngineError | None:
    return EngineError(_BROKEN) if isinstance(error, BrokenProcessPool) else None


@contextmanager
def processes(number: int, beginning: Beginning) -> Iterator[Processes]:
    """Give so many worker processes, which end with the block."""
    # A process that is forked while threads run may hang.
    spawning = get_context("spawn")
    told = spawning.SimpleQueue()
    context = copy_context()
    listener = threading.Thread(target=lambda: context.run(_pass_on, told), daemon=True)
    with TemporaryDirectory() as folder:
        pool = ProcessPoolExecutor(number, spawning, _begin, (beginning, told))
        listener.start()
        try:
            yield Processes(pool, number, Path(folder))
        finally:
            pool.shutdown(cancel_futures=True)
            told.put(None)
            listener.join()


def _begin(beginning: Beginning, told: Any) -> None:
    end_without_parent()
    beginning()
    heard_by(told.put).__enter__()  # for as long as the process lives


def _pass_on(told: Any) -> None:
    while (progress := told.get()) is not None:
        report(progress)
