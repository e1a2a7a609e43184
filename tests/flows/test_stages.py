"""What the flow's process holds while it runs many steps, and what becomes of steps in batches."""

from pathlib import Path

import numpy as np
import pytest
from prefect import flow
from prefect.client.schemas.objects import State
from prefect.settings import PREFECT_TASK_DEFAULT_RETRIES, temporary_settings

from flows.stages import Stages, stages
from tasks.core.base.errors import UnreachableError
from tasks.core.base.memory import peak_memory, reset_peak_memory
from tasks.core.base.progress import heard_by
from tasks.core.base.settings import Settings
from tasks.core.references.batches import Batch, Handled
from tasks.core.storage.store import Outcome, Reference, StageKey, store_of
from tasks.stage import CACHED, networked, of_each, stage, with_retries

STEPS, BYTES = 300, 2**23


class Number(Reference):
    value: int

    @property
    def origin(self) -> str:
        return f"number {self.value}"


@stage(name="large")
@of_each
def large(number: Number, settings: Settings) -> Outcome[Number]:
    """Take as much memory as a block, and give a reference's worth back."""
    return Outcome(Number(value=int(np.full(BYTES // 8, number.value).sum() // (BYTES // 8))), cached=False)


@of_each
def stored(number: Number, settings: Settings) -> Outcome[Number]:
    """Answer from the store; what is asked for while its door is shut does not answer."""
    if (Path(settings.store) / f"shut-{number.value}").exists():
        (Path(settings.store) / f"shut-{number.value}").unlink()
        raise UnreachableError(f"{number.value} does not answer")
    key = StageKey(stage="stored", version=1, inputs={"number": number.value})
    return store_of(settings).answer(key, Number, lambda: number)


kept = networked(name="kept", task_run_name="keep {batch.origin}")(stored)


def numbers(*values: int) -> list[Number]:
    return [Number(value=value) for value in values]


def steps(run: Stages) -> tuple[int, int]:
    return run.costs.stages[-1].made, run.costs.stages[-1].cached


def test_memory_stays_flat_over_many_steps(tmp_path: Path, prefect_server: None) -> None:
    settings = Settings(store=str(tmp_path), workers=2)

    @flow
    def many() -> tuple[list[Number], int]:
        with stages(settings) as run:
            run.costs.cells = STEPS * settings.partition_cells
            run.each(large, numbers(*range(STEPS // 10)), settings)
            reset_peak_memory()
            before = peak_memory()
            return run.each(large, numbers(*range(STEPS)), settings), peak_memory() - before

    found, grown = many()
    assert found == numbers(*range(STEPS))
    # All blocks together are 2.5 GB; what Prefect keeps of a task run is some tens of kB.
    assert grown < 2**26 + 2 * BYTES


def test_the_state_of_a_batch_tells_what_was_found(tmp_path: Path) -> None:
    settings = Settings(store=str(tmp_path))

    def handle(*values: int) -> Handled[Number] | State[Handled[Number]]:
        return stored(Batch(numbers(*values)), settings)

    assert isinstance(handle(1, 2), Handled)
    some, every = handle(1, 2, 3), handle(3, 2, 1)
    assert isinstance(some, State)
    assert isinstance(every, State)
    assert (some.name, some.message) == ("Completed", "2 of 3 found in the store")
    assert (every.name, every.message) == (CACHED, "found in the store")


@pytest.mark.parametrize("shut", [[], [2]])
def test_steps_are_counted_one_by_one_and_a_batch_that_is_tried_again_does_what_is_left(
    tmp_path: Path, prefect_server: None, shut: list[int]
) -> None:
    settings = Settings(store=str(tmp_path), retries=1)
    heard: list[str] = []

    @flow
    def twice() -> list[tuple[int, int]]:
        with stages(settings) as run, heard_by(lambda step: heard.append(str(step))):
            run.costs.cells = 3 * settings.partition_cells // 2
            counted: list[tuple[int, int]] = []
            for values in ([0, 1], [0, 1, 2, 3, 4, 5], [0, 1, 2, 3, 4, 5]):
                for number in shut if len(counted) == 1 else []:
                    (tmp_path / f"shut-{number}").touch()
                assert run.each(kept, numbers(*values), settings) == numbers(*values)
                counted.append(steps(run))
            return counted

    assert twice() == [(2, 0), (4, 2), (0, 6)]
    assert heard[-3:] == [f"kept: partition {done} of 6, {done} found in the store" for done in (2, 4, 6)]


def test_a_mistake_of_ours_is_not_tried_again(prefect_server: None) -> None:
    tries = []

    def wrong() -> None:
        tries.append(1)
        raise TypeError

    with temporary_settings({PREFECT_TASK_DEFAULT_RETRIES: 3}):
        tasks = [stage(name="here")(wrong), networked(name="there")(wrong)]

    @flow
    def once() -> int:
        for task in tasks:
            task(return_state=True)
            with_retries(task, 3)(return_state=True)
        return len(tries)

    assert once() == 4
