"""Processes of this machine that work for a run."""

import pickle
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from contextvars import copy_context
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

from tqdm import tqdm

from flows.child import undisturbed
from flows.engines.begin import Beginning, end_without_parent
from flows.engines.sent import Answer, Shared, call
from tasks.core.base.errors import EngineError
from tasks.core.base.progress import heard_by, report
from tasks.core.numerics.workers import AHEAD, Workers

_BROKEN = (
    "a worker process is gone: killed, or out of memory; what is finished is kept: the same command goes on from "
    "there, with less memory if --workers or --block_cells is lower"
)


class Processes(Workers):
    """Worker processes; what they share, and what they make, lies in files of a folder."""

    def __init__(self, pool: ProcessPoolExecutor, number: int, folder: Path) -> None:
        self._pool, self._number, self._folder = pool, number, folder

    @property
    def ahead(self) -> int:
        """So many for each process."""
        return AHEAD * self._number

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
            with undisturbed():
                made = self._pool.submit(_leave_result, self._folder, fn, *args, **kwargs)
            return Answer(_Fetched(made), _explain)
        except BrokenProcessPool:
            raise EngineError(_BROKEN) from None


@dataclass(frozen=True)
class _Fetched:
    """A result that lies in a file until it is asked for.

    One that is on its way through the pool's pipe when its process is killed would keep the pool waiting for the rest,
    and others from the pipe.
    """

    of: Future[Path]

    def result(self, timeout: float | None = None) -> Any:
        path = self.of.result(timeout)
        result = pickle.loads(path.read_bytes())  # noqa: S301  (the run's own process left it)
        path.unlink()
        return result

    def cancel(self) -> bool:
        return self.of.cancel()


def _leave_result(folder: Path, function: Callable[..., Any], *arguments: Any, **named: Any) -> Path:
    path = folder / uuid4().hex
    path.write_bytes(pickle.dumps(call(function, *arguments, **named), protocol=5))
    return path


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
    with TemporaryDirectory(prefix="tahoe-flow-processes-") as folder:
        pool = ProcessPoolExecutor(number, spawning, _begin, (beginning, told, Path(folder)))
        listener.start()
        try:
            yield Processes(pool, number, Path(folder))
        finally:
            pool.shutdown(cancel_futures=True)
            told.put(None)
            listener.join()


# What holds for as long as the process lives.
_always = ExitStack()


def _begin(beginning: Beginning, told: Any, folder: Path) -> None:
    end_without_parent(folder)
    # When one of them is lost, the pool ends the others so.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    beginning()
    # By itself it takes a lock of the machine's, which would be found lost once this process is killed, and told.
    tqdm.set_lock(threading.RLock())
    _always.enter_context(heard_by(told.put))


def _pass_on(told: Any) -> None:
    while (progress := told.get()) is not None:
        report(progress)
