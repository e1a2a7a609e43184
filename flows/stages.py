"""Runs the stages of a flow: one step or many at once, with progress and costs."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from prefect import get_run_logger, unmapped
from prefect.runtime import flow_run
from prefect.task_runners import ThreadPoolTaskRunner
from prefect.utilities.annotations import opaque

from flows.engines.engine import Engine, engine_of
from tasks.core.base.deadline import deadline
from tasks.core.base.environment import environment
from tasks.core.base.errors import CorruptObjectError, StoreError, first_line
from tasks.core.base.memory import use_one_heap
from tasks.core.base.progress import Progress, report
from tasks.core.base.settings import RunSettings
from tasks.core.base.surroundings import fit_surroundings
from tasks.core.numerics.fold import one_blas_thread
from tasks.core.numerics.workers import put_to_work
from tasks.core.references.batches import in_batches
from tasks.core.results.costs import Costs, Steps
from tasks.core.storage.runs import RunMarker
from tasks.core.storage.store import Outcome, store_of
from tasks.stage import with_retries

R = TypeVar("R")
# Each finds all damage of a stage, and no flow has more than twenty stages.
_MOST_REPAIRS = 20


@dataclass(frozen=True)
class Stages:
    """The stages of one run, so many steps at a time.

    Attributes:
        engine: who does the work.
        runner: submits the steps that are many, each on a thread of this process whoever carries it out.
        retries: of the steps that read over a network.
        timeout: seconds that a stage may take.
        partition_cells: the most that a partition may hold.
        costs: what each stage cost.
        mark: tells the store that the run is at work.
    """

    engine: Engine
    runner: ThreadPoolTaskRunner[Any]
    retries: int
    timeout: float | None
    partition_cells: int
    costs: Costs
    mark: RunMarker

    def one(self, task: Any, *arguments: Any) -> Any:
        """Run a stage of a single step and return its result."""
        with self._time(task) as steps:
            # Prefect would look for futures in all references of a large run.
            given = with_retries(task, self.retries)(*map(opaque, arguments), return_state=True).result()
            done = given if isinstance(given, Outcome) else Outcome(given, False, frozenset({environment()}))
            steps.count(made=int(not done.cached), cached=int(done.cached), environments=done.environments)
        report(Progress(task.name, "", 1, 1, "found in the store" if done.cached else ""))
        return done.result

    def each(self, task: Any, items: Sequence[Any], *shared: Any) -> list[Any]:
        """Run a stage for each item, in batches on as many workers as there are; results in the items' order."""
        with self._time(task) as steps:
            batches = in_batches(items, self.costs.cells, self.partition_cells)
            parameters = {"batch": batches, "shared": unmapped(shared)}
            futures = self.runner.map(with_retries(task, self.retries), parameters)
            return self._settle_all(task.name, futures, steps, len(items))

    def until_whole(self, sentence: Callable[[], R]) -> R:
        """Run all stages; where an object of the store turns out to be damaged, again: what is whole is found there."""
        for _ in range(_MOST_REPAIRS):
            try:
                return sentence()
            except CorruptObjectError as error:
                get_run_logger().warning("%s; it is made again", error)
                self.costs.restart(str(error))
        return sentence()

    @contextmanager
    def _time(self, task: Any) -> Iterator[Steps]:
        limit, work = deadline(task.name, self.timeout), put_to_work(self.engine.workers)
        with limit, work, self.costs.measure(task.name) as steps:
            yield steps

    def _settle_all(self, stage: str, futures: Sequence[Any], steps: Steps, total: int) -> list[Any]:
        # All of them first, and their damage in one error, so that one more run of the stages repairs it all.
        results: list[Any] = []
        damage = []
        for future in futures:
            try:
                results += self._settle(stage, future, steps, total)
            except CorruptObjectError as error:
                damage.append(str(error))
        if damage:
            raise CorruptObjectError("; ".join(damage))
        return results

    def _settle(self, stage: str, future: Any, steps: Steps, total: int) -> list[Any]:
        handled = future.result()
        steps.count(made=handled.made, cached=handled.cached, environments=handled.environments)
        note = f"{steps.cached:,} found in the store" if steps.cached else ""
        report(Progress(stage, "partition", steps.made + steps.cached, total, note))
        results: list[Any] = handled.results
        return results


@contextmanager
def stages(settings: RunSettings) -> Iterator[Stages]:
    """Give the stages of a run their workers."""
    use_one_heap()
    fit_surroundings()
    mark = RunMarker(store_of(settings), settings, flow_run.id or "")
    mark.begin()
    try:
        with one_blas_thread(), engine_of(settings) as engine, _threads(engine.steps) as runner:
            of_settings = settings.retries, settings.stage_timeout, settings.partition_cells
            yield Stages(engine, runner, *of_settings, Costs(), mark)
    except BaseException as error:
        # What went wrong first is what matters, and it may be the store itself.
        with suppress(StoreError):
            mark.fail(f"{type(error).__name__}: {first_line(error)}")
        raise


def _threads(number: int) -> ThreadPoolTaskRunner[Any]:
    return ThreadPoolTaskRunner(max_workers=number)
