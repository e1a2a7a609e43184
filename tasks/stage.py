"""How a core function becomes a Prefect task: the one place for caching, retries and states.

The store is the cache. Prefect's own result cache would pickle, and would count a lost file as cached; so it is off,
and a stage whose result the store holds ends in a state of its own name, Cached, that the UI shows.

The tasks are plain: call, submit or map them in any flow, with values or with futures.
"""

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from functools import wraps
from threading import Event, Semaphore
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, TypeVar, cast, overload

import cloudpickle
from prefect import Task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.states import Completed
from prefect.tasks import exponential_backoff

from tasks.core.base.environment import environment
from tasks.core.base.errors import EngineError, UnreachableError
from tasks.core.base.progress import Progress, report
from tasks.core.numerics.workers import done_by_worker
from tasks.core.references.batches import Batch, handle
from tasks.core.results.costs import Costs
from tasks.core.storage.store import Outcome, Reference

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S", bound=Reference)
Item = TypeVar("Item", bound=Any)

CACHED = "Cached"


class _Maker(Protocol):
    """Makes a task of a function; what it returns in an `Outcome` is what the task returns."""

    @overload
    def __call__(self, function: Callable[P, Outcome[S]], /) -> Task[P, S]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> Task[P, R]: ...


class _Stage(Task[P, R]):
    """A task that is called for its result: Prefect would give the state where the function has named that."""

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        given = super().__call__(*arguments, **named)
        return given.result() if isinstance(given, State) and not named.get("return_state") else given

    def with_options(self, **options: Any) -> Any:
        made: Any = super().with_options(**options)
        # Prefect makes it a plain one.
        made.__class__ = _Stage
        return made


def stage(name: str, *, takes_a_slot: bool = False, **options: Any) -> _Maker:
    """Make a task of a function that reads and writes the store alone.

    Args:
        name: of the stage.
        takes_a_slot: whether it waits for one of the run's, as batches do: for tasks of which many are submitted.
        options: Prefect's.
    """

    def of(function: Callable[..., Any], /) -> Task[..., Any]:
        @wraps(function)
        def counted(*arguments: Any, **named: Any) -> Any:
            with _slot(is_networked=False) if takes_a_slot else nullcontext(), _at_work(name):
                given = function(*arguments, **named)
            outcome = given if isinstance(given, Outcome) else Outcome(given, False, frozenset({environment()}))
            note = f"found in the {outcome.place}" if outcome.cached else ""
            _count(name, [outcome])
            report(Progress(name, "", 1, 1, note))
            return Completed(name=CACHED, message=note, data=outcome.result) if outcome.cached else outcome.result

        # What Prefect is set to try again by default, a mistake of ours is not.
        return _Stage(counted, name=name, cache_policy=NO_CACHE, persist_result=False, **{"retries": 0, **options})

    return cast("_Maker", of)


def networked(name: str, **options: Any) -> _Maker:
    """Make a task of a function that reads over a network as well: `with_retries` says how often it is tried again."""
    return stage(name, retries=1, retry_condition_fn=_is_passing, **options)


def with_retries(task: Task[P, R], retries: int) -> Task[P, R]:
    """Give a task that, if it reads over a network, is tried again while that does not answer."""
    if not task.retries:
        return task
    return task.with_options(
        retries=retries,
        retry_delay_seconds=exponential_backoff(backoff_factor=2),
        retry_jitter_factor=0.5,
    )


async def _is_passing(_task: Task[..., Any], _run: TaskRun, state: State[Any]) -> bool:
    # Bad data and bad settings do not get better by themselves.
    return isinstance(await state.aresult(raise_on_failure=False), UnreachableError)


def batched(one: Task[Concatenate[Item, P], S]) -> Task[..., Batch[S]]:
    """Give the same task for a batch of partitions, of which it handles one after the other.

    It is done by a worker where the run has some that are not threads. The task's run stays in this process: workers
    need no Prefect, nor what lets one into its server, and one that is lost is no matter of the task's.

    The state is named Cached where all results were found, and tells how many where some were.
    """
    step: _Sent[Any, Any] = _Sent(inspect.unwrap(one.fn))

    @wraps(one.fn)
    def of_batch(batch: Batch[Item], *shared: Any, **named: Any) -> Batch[S] | State[Batch[S]]:
        with _slot(is_networked=bool(one.retries)), _at_work(one.name):
            outcomes: list[Outcome[S]] = done_by_worker(handle, batch.items, step, *shared, **named)
        _count(one.name, outcomes)
        results = Batch((outcome.result for outcome in outcomes), sum(outcome.cached for outcome in outcomes))
        if not results.found:
            return results
        if results.found == len(results):
            return Completed(name=CACHED, message="found in the store", data=results)
        return Completed(message=f"{results.found:,} of {len(results):,} found in the store", data=results)

    made: Task[..., Any] = one.with_options()
    made.fn = of_batch
    return made


class _Sent(Generic[P, R]):
    """A step that travels with its code: by its name, another process would find the task, and with it Prefect."""

    def __init__(self, step: Callable[P, R]) -> None:
        self._step = step

    def __call__(self, *arguments: P.args, **named: P.kwargs) -> R:
        return self._step(*arguments, **named)

    def __reduce__(self) -> tuple[Callable[[bytes], Any], tuple[bytes]]:
        return cloudpickle.loads, (cloudpickle.dumps(self._step),)


class Limits:
    """What a flow asks of the tasks that it runs; in a flow that asks nothing, nothing is counted or limited.

    Args:
        costs: where they are counted.
        steps: batches that are computed at the same time, and again so many that are streamed.
    """

    def __init__(self, costs: Costs, steps: int) -> None:
        self.costs = costs
        self.computing, self.streaming = Semaphore(steps), Semaphore(steps)
        self.over = Event()


_limits: ContextVar[Limits | None] = ContextVar("limits", default=None)


@contextmanager
def limited(limits: Limits) -> Iterator[None]:
    """Hold the tasks that are run in the block to these limits; what has not begun by its end does not begin."""
    token = _limits.set(limits)
    try:
        yield
    finally:
        limits.over.set()
        _limits.reset(token)


@contextmanager
def _slot(*, is_networked: bool) -> Iterator[None]:
    limits = _limits.get()
    if limits is None:
        yield
        return
    with limits.streaming if is_networked else limits.computing:
        if limits.over.is_set():
            raise EngineError("the run has ended")
        yield


@contextmanager
def _at_work(name: str) -> Iterator[None]:
    limits = _limits.get()
    with limits.costs.measure(name) if limits else nullcontext():
        yield


def _count(name: str, outcomes: Sequence[Outcome[Any]]) -> None:
    limits = _limits.get()
    if limits is not None:
        limits.costs.count(name, outcomes)
