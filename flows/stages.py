"""Runs the stages of a flow: one step or many at once, with progress and costs."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from prefect import unmapped
from prefect.task_runners import ThreadPoolTaskRunner

from tasks.core.fold import one_blas_thread
from tasks.core.progress import Progress, report
from tasks.core.record import Costs
from tasks.stage import CACHED


@dataclass(frozen=True)
class Stages:
    """The stages of one run, on a bounded number of threads.

    Attributes:
        runner: submits the steps that are many.
        costs: what each stage cost.
    """

    runner: ThreadPoolTaskRunner[Any]
    costs: Costs

    def one(self, task: Any, *arguments: Any) -> Any:
        """Run a stage of a single step and return its result."""
        with self.costs.measure(task.name) as steps:
            state = task(*arguments, return_state=True)
            result = state.result()
            steps.count(cached=state.name == CACHED)
        report(Progress(task.name, "step", 1, 1, "found in the store" if state.name == CACHED else ""))
        return result

    def each(self, task: Any, items: Sequence[Any], *shared: Any) -> list[Any]:
        """Run a stage once for each item, as many at a time as there are workers; results in the items' order."""
        with self.costs.measure(task.name) as steps:
            names = list(task.fn.__annotations__)
            parameters = dict(zip(names, [list(items), *map(unmapped, shared)], strict=False))
            futures = self.runner.map(task, parameters)
            return [self._settle(task.name, future, steps, len(futures)) for future in futures]

    def _settle(self, stage: str, future: Any, steps: Any, total: int) -> Any:
        result = future.result()
        steps.count(cached=future.state.name == CACHED)
        note = f"{steps.cached:,} found in the store" if steps.cached else ""
        report(Progress(stage, "partition", steps.made + steps.cached, total, note))
        return result


@contextmanager
def stages(workers: int) -> Iterator[Stages]:
    """Give the stages of a run their workers."""
    threads: ThreadPoolTaskRunner[Any] = ThreadPoolTaskRunner(max_workers=workers)
    with one_blas_thread(), threads as runner:
        yield Stages(runner, Costs())
