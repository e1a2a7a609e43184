"""How a core function becomes a Prefect task: the one place for caching, retries and states.

The store is the cache. Prefect's own result cache would pickle, and would count a lost file as cached; so it is off,
and a stage whose result the store holds ends in a state of its own name, Cached, that the UI shows.
"""

from collections.abc import Callable
from functools import WRAPPER_ASSIGNMENTS, update_wrapper
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar

import cloudpickle
from prefect import Task, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.states import Completed
from prefect.tasks import exponential_backoff

from tasks.core.base.errors import UnreachableError
from tasks.core.numerics.workers import done_by_worker
from tasks.core.references.batches import Batch, Handled
from tasks.core.storage.store import Outcome, Reference

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S", bound=Reference)
Item = TypeVar("Item", bound=Any)

CACHED = "Cached"
# What a stage of a single step returns that answers from the store.
Answer = Outcome[S] | State[Outcome[S]]


def stage(name: str, **options: Any) -> Callable[[Callable[P, R]], Task[P, R]]:
    """Make a task of a function that reads and writes the store alone."""
    # What Prefect is set to try again by default, a mistake of ours is not.
    return task(name=name, cache_policy=NO_CACHE, persist_result=False, **{"retries": 0, **options})


def networked(name: str, **options: Any) -> Callable[[Callable[P, R]], Task[P, R]]:
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


def as_state(outcome: Outcome[S]) -> Answer[S]:
    """Give what a stage found or made as Prefect is to see it: plain if made now, in a state named Cached if found."""
    if not outcome.cached:
        return outcome
    return Completed(name=CACHED, message="found in the store", data=outcome)


def of_each(
    step: Callable[Concatenate[Item, P], Outcome[S]],
) -> Callable[Concatenate[Batch[Item], P], Handled[S] | State[Handled[S]]]:
    """Make of what is done to one partition what is done to a batch of them, one after the other.

    It is done by a worker where the run has some that are not threads. The task's run stays in this process: workers
    need no Prefect, nor what lets one into its server, and one that is lost is no matter of the task's.

    The state is named Cached where all results were found, and tells how many where some were.
    """
    sent = _Sent(step)

    def of_batch(batch: Batch[Item], /, *shared: P.args, **named: P.kwargs) -> Handled[S] | State[Handled[S]]:
        handled: Handled[S] = done_by_worker(batch.handle, sent, *shared, **named)
        if not handled.cached:
            return handled
        if not handled.made:
            return Completed(name=CACHED, message="found in the store", data=handled)
        return Completed(message=f"{handled.cached:,} of {len(handled.results):,} found in the store", data=handled)

    update_wrapper(of_batch, step, [name for name in WRAPPER_ASSIGNMENTS if name != "__annotations__"])
    # Prefect would take the parameters of the step for those of the batch.
    del vars(of_batch)["__wrapped__"]
    return of_batch


class _Sent(Generic[P, R]):
    """A step that travels with its code: by its name, another process would find the task, and with it Prefect."""

    def __init__(self, step: Callable[P, R]) -> None:
        self._step = step

    def __call__(self, *arguments: P.args, **named: P.kwargs) -> R:
        return self._step(*arguments, **named)

    def __reduce__(self) -> tuple[Callable[[bytes], Any], tuple[bytes]]:
        return cloudpickle.loads, (cloudpickle.dumps(self._step),)
