"""A Dask cluster that works for a run: one that is running, or processes of this machine."""

import logging
import pickle
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, nullcontext, suppress
from contextvars import Context, copy_context
from dataclasses import asdict
from functools import partial
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

import dask
import distributed
from distributed.client import ClosedClientError
from distributed.comm.core import CommClosedError
from distributed.scheduler import KilledWorker

from flows.child import undisturbed
from flows.engines.begin import Beginning
from flows.engines.sent import Answer, Shared, call, forget_shared
from tasks.core.base.errors import EngineError, first_line
from tasks.core.base.progress import Progress, heard_by, report
from tasks.core.numerics.kept_blocks import forget_blocks
from tasks.core.numerics.workers import AHEAD, Workers

_HERE = "127.0.0.1"
_CONNECT_SECONDS = 10.0
_FIRST_WORKER_SECONDS = 60.0
_COUNTED_SECONDS = 1.0
_HAND_OUT_SECONDS = 2.0
_BEGINNINGS = 3
# Bytes that take no longer to send than it takes to have all workers fetch them first.
_SENT_WITH_EACH_CALL = 2**16
# Each worker would look at itself a hundred times a second: a twentieth of its time.
_CONFIGURED = {"distributed.worker.profile.enabled": False, "distributed.admin.tick.interval": "1s"}
_GOES_ON = "what is finished is kept: the same command goes on from there"


class Cluster(Workers):
    """The workers of a Dask cluster, as many as there are at the moment.

    Args:
        client: of the cluster.
        place: what to call it in messages.
    """

    def __init__(self, client: distributed.Client, place: str) -> None:
        self._client, self._place = client, place
        self._topic = f"progress-{uuid4().hex}"
        self._threads: dict[str, int] = {}
        self._counted = 0.0
        context = copy_context()
        client.subscribe_topic(self._topic, lambda event: _pass_on(context, event[1]))

    @property
    def number(self) -> int:
        """Workers' threads that there are now."""
        return sum(self._threads_by_worker().values())

    @property
    def ahead(self) -> int:
        """So many for each worker there is now."""
        return AHEAD * max(self.number, 1)

    @contextmanager
    def share(self, value: Any) -> Iterator[Any]:
        """Send a small value with each call; give a large one to the cluster once, for workers to get from each other.

        As the result of a call, that is: the scheduler can have it made again where the worker that held it is gone.
        """
        shared = Shared.of(value)
        if len(shared.data) <= _SENT_WITH_EACH_CALL:
            yield shared
            return
        with self._explained():
            of_cluster = self._client.submit(_same, shared, pure=False)
            self._hand_out(of_cluster)
        yield of_cluster

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Call a function on one of the workers."""
        # Dask looks into arguments for results of its own; it finds the one that matters, and no other.
        shared = {at: one for at, one in enumerate(args) if isinstance(one, distributed.Future)}
        others = [None if at in shared else one for at, one in enumerate(args)]
        packed = pickle.dumps((fn, others, kwargs))
        with self._explained():
            future = self._client.submit(_work, self._topic, packed, list(shared), *shared.values(), pure=False)
        return Answer(future, self._explain)

    def _threads_by_worker(self) -> dict[str, int]:
        # Workers may join, and be lost.
        now = time.monotonic()
        if now - self._counted > _COUNTED_SECONDS:
            with self._explained():
                workers = self._client.scheduler_info(n_workers=-1)["workers"]
            self._threads = {address: worker["nthreads"] for address, worker in workers.items()}
            self._counted = now
        return self._threads

    def _hand_out(self, shared: Any) -> None:
        """Have each worker fetch what all need, for the scheduler sends calls where their arguments are."""
        fetched = [
            self._client.submit(_fetch, shared, workers=[address], allow_other_workers=True, pure=False)
            for address in self._threads_by_worker()
        ]
        # One that is at work for another run has it when it is free again.
        with self._client.as_current(), suppress(TimeoutError):
            distributed.wait(fetched, timeout=_HAND_OUT_SECONDS)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (*_GONE, OSError):
            raise self._gone() from None

    def _explain(self, error: BaseException) -> EngineError | None:
        if isinstance(error, KilledWorker):
            return EngineError(
                f"{error.allowed_failures + 1} Dask workers died one after the other on the same step, most often for "
                f"want of memory: give each more, or lower --block_cells; {_GOES_ON}"
            )
        if isinstance(error, _GONE):
            return self._gone()
        return None

    def _gone(self) -> EngineError:
        return EngineError(f"the Dask scheduler at {self._place} is gone; {_GOES_ON}, with a scheduler that runs")


# What the client raises, of all it was waiting for and of all that it is asked after that.
_GONE = (distributed.CancelledError, ClosedClientError, CommClosedError)


def _same(shared: Shared) -> Shared:
    return shared


def _fetch(shared: Shared) -> None:  # noqa: ARG001  (to be called is to have fetched it)
    return


def _work(topic: str, packed: bytes, places: list[int], *shared: Shared) -> Any:
    function, arguments, named = pickle.loads(packed)  # noqa: S301  (the run's own process packed it)
    for place, value in zip(places, shared, strict=True):
        arguments[place] = value
    with heard_by(partial(_tell, topic)):
        return call(function, *arguments, **named)


def _tell(topic: str, progress: Progress) -> None:
    distributed.get_worker().log_event(topic, {"progress": asdict(progress)})


def _pass_on(context: Context, told: dict[str, Any]) -> None:
    context.copy().run(report, Progress(**told["progress"]))


class _Begins(distributed.WorkerPlugin):
    """Has each worker begin as this project's do, those that join later as well."""

    def __init__(self, beginning: Beginning) -> None:
        self.name = f"tahoe-flow-{uuid4().hex}"
        self._beginning = beginning

    def setup(self, worker: distributed.Worker) -> None:  # noqa: ARG002  (Dask's signature)
        self._beginning()

    def teardown(self, worker: distributed.Worker) -> None:  # noqa: ARG002
        forget_blocks()
        forget_shared()


@contextmanager
def cluster(address: str | None, number: int, beginning: Beginning) -> Iterator[Cluster]:
    """Give the workers of the cluster at an address, or else of one on this machine that ends with the block.

    Raises:
        EngineError: nobody answers at the address, no worker joins, or a worker cannot begin.
    """
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    begins = _Begins(beginning)
    with _local(number) if address is None else nullcontext(address) as where:
        place = address or "this machine"
        with _connected(where, place) as client:
            _have_begin(client, begins, place)
            try:
                yield Cluster(client, place)
            finally:
                with suppress(*_GONE, OSError):
                    client.unregister_worker_plugin(begins.name)


def _have_begin(client: distributed.Client, begins: _Begins, place: str) -> None:
    # One worker that dies just then is no matter of the run's: its successor begins by itself.
    for tried in range(_BEGINNINGS):
        try:
            client.wait_for_workers(1, timeout=_FIRST_WORKER_SECONDS if tried == 0 else _CONNECT_SECONDS)
            client.register_plugin(begins)
        except ModuleNotFoundError as error:
            raise EngineError(
                f"a worker of the Dask scheduler at {place} lacks what a run needs ({first_line(error)}): install "
                "this project with its extra [dask] where the workers run"
            ) from None
        except TimeoutError:
            if tried == 0:
                raise EngineError(
                    f"no worker has joined the Dask scheduler at {place} in {_FIRST_WORKER_SECONDS:g} s: start some "
                    f"with 'dask worker {place} --nthreads 1'"
                ) from None
        except (*_GONE, OSError):
            time.sleep(_COUNTED_SECONDS)
        else:
            return
    raise EngineError(f"Dask workers died as they began, most often for want of memory: give each more; {_GOES_ON}")


@contextmanager
def _local(number: int) -> Iterator[distributed.LocalCluster]:
    # Dask leaves files behind where its workers are.
    folder = TemporaryDirectory(prefix="tahoe-flow-dask-", ignore_cleanup_errors=True)
    with folder as own, _started(number, own) as started:
        yield started


def _started(number: int, folder: str) -> distributed.LocalCluster:
    given = dask.config.get("temporary-directory", None)
    with dask.config.set(_CONFIGURED | {"temporary-directory": given or folder}), undisturbed():
        try:
            # Ports of this machine are open to all who use it, and a scheduler carries out what it is told.
            return distributed.LocalCluster(
                n_workers=number,
                threads_per_worker=1,
                host=_HERE,
                # Without one it would take a port that many others take.
                dashboard_address=f"{_HERE}:0",
                silence_logs=logging.CRITICAL,
                security=True,
            )
        except Exception as error:  # what Dask is set to by others may be of any kind
            raise EngineError(
                f"no Dask cluster starts on this machine ({first_line(error)}): DASK_... in the environment and "
                "~/.config/dask are how Dask is set"
            ) from error


@contextmanager
def _connected(where: Any, place: str) -> Iterator[distributed.Client]:
    try:
        client = distributed.Client(where, timeout=_CONNECT_SECONDS, set_as_default=False, direct_to_workers=True)
    except (OSError, ValueError) as error:
        raise EngineError(
            f"no Dask scheduler answers at {place} ({first_line(error)}): 'dask scheduler' starts one; without "
            "--dask_address the run has a cluster of its own"
        ) from None
    with client:
        yield client
