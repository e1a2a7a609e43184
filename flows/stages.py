"""Runs the stages of a flow: one step or many at once, with progress and costs."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from prefect import get_run_logger, unmapped
from prefect.runtime import flow_run
from prefect.task_runners import ThreadPoolTaskRunner

from flows.engines.engine import Engine, engine_of
from tasks.core.base.deadline import deadline
from tasks.core.base.errors import CorruptObjectError, StoreError, first_line
from tasks.core.base.memory import use_one_heap
from tasks.core.base.progress import Progress, report
from tasks.core.base.settings import RunSettings
from tasks.core.numerics.fold import one_blas_thread
from tasks.core.numerics.workers import folding_on
from tasks.core.results.costs import Costs, Steps
from tasks.core.storage.runs import RunMarker
from tasks.core.storage.store import store_of
from tasks.stage import CACHED, done_by, with_retries

R = TypeVar("R")
# Each finds all damage of a stage, and no flow has more than eleven stages.
_MOST_REPAIRS = 20


@dataclass(frozen=True)
class Stages:
    """The stages of one run, so many steps at a time.

    Attributes:
        engine: who does the work.
        runner: submits the steps that are many, each on a thread of this process whoever carries it out.
        retries: of the steps that read over a network.
        timeout: seconds that a stage may take.
        costs: what each stage cost.
        mark: tells the store that the run is at work.
    """

    engine: Engine
    runner: ThreadPoolTaskRunner[Any]
    retries: int
    timeout: float | None
    costs: Costs
    mark: RunMarker

    def one(self, task: Any, *arguments: Any) -> Any:
        """Run a stage of a single step and return its result."""
        with self._time(task) as steps:
            state = with_retries(task, self.retries)(*arguments, return_state=True)
            result = state.result()
            steps.count(cached=state.name == CACHED)
        self.mark.beat()
        report(Progress(task.name, "", 1, 1, "found in the store" if state.name == CACHED else ""))
        return result

    def each(self, task: Any, items: Sequence[Any], *shared: Any) -> list[Any]:
        """Run a stage once for each item, as many at a time as there are workers; results in the items' order."""
        with self._time(task) as steps:
            names = list(task.fn.__annotations__)
            parameters = dict(zip(names, [list(items), *map(unmapped, shared)], strict=False))
            futures = self.runner.map(done_by(self.engine.workers, with_retries(task, self.retries)), parameters)
            results = self._settle_all(task.name, futures, steps)
        self.mark.beat()
        return results

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
        limit, folds = deadline(task.name, self.timeout), folding_on(self.engine.workers)
        with limit, folds, self.costs.measure(task.name) as steps:
            yield steps

    def _settle_all(self, stage: str, futures: Sequence[Any], steps: Steps) -> list[Any]:
        # All of them first, and their damage in one error, so that one more run of the stages repairs it all.
        results, damage = [], []
        for future in futures:
            try:
                results.append(self._settle(stage, future, steps, len(futures)))
            except CorruptObjectError as error:
                damage.append(str(error))
        if damage:
            raise CorruptObjectError("; ".join(damage))
        return results

    def _settle(self, stage: str, future: Any, steps: Steps, total: int) -> Any:
        result = future.result()
        steps.count(cached=future.state.name == CACHED)
        note = f"{steps.cached:,} found in the store" if steps.cached else ""
        report(Progress(stage, "partition", steps.made + steps.cached, total, note))
        return result


@contextmanager
def stages(settings: RunSettings) -> Iterator[Stages]:
    """Give the stages of a run their workers."""
    use_one_heap()
    mark = RunMarker(store_of(settings), settings, flow_run.id or "")
    mark.beat()
    try:
        with one_blas_thread(), engine_of(settings) as engine, _threads(engine.steps) as runner:
            yield Stages(engine, runner, settings.retries, settings.stage_timeout, Costs(), mark)
    except BaseException as error:
        # What went wrong first is what matters, and it may be the store itself.
        with suppress(StoreError):
            mark.fail(f"{type(error).__name__}: {first_line(error)}")
        raise


def _threads(number: int) -> ThreadPoolTaskRunner[Any]:
    return ThreadPoolTaskRunner(max_workers=number)
