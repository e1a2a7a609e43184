"""What becomes of a stage's task: in a flow of ours, in anyone's, and in batches."""

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prefect import flow, unmapped
from prefect.futures import PrefectFuture, wait
from prefect.settings import PREFECT_TASK_DEFAULT_RETRIES, temporary_settings

from flows.carry_out import AT_ONCE
from flows.partitions import results
from tasks.core.base.errors import CorruptObjectError, DataError, UnreachableError
from tasks.core.base.memory import peak_memory, reset_peak_memory, use_one_heap
from tasks.core.base.progress import heard_by
from tasks.core.base.settings import Settings
from tasks.core.references.batches import Batch
from tasks.core.results.costs import Costs
from tasks.core.storage.store import Outcome, Reference, StageKey, store_of
from tasks.stage import CACHED, Limits, batched, limited, networked, stage, with_retries

STEPS, BYTES = 300, 2**23


class Number(Reference):
    value: int

    @property
    def origin(self) -> str:
        return f"number {self.value}"

    @property
    def is_empty(self) -> bool:
        return self.value < 0


@stage(name="large")
def large(number: Number, settings: Settings) -> Outcome[Number]:
    """Take as much memory as a block, and give a reference's worth back."""
    return Outcome(Number(value=int(np.full(BYTES // 8, number.value).sum() // (BYTES // 8))), cached=False)


@networked(name="kept", task_run_name="keep {number.origin}")
def kept(number: Number, settings: Settings) -> Outcome[Number]:
    """Answer from the store; what is asked for while its door is shut does not answer."""
    if (Path(settings.store) / f"shut-{number.value}").exists():
        (Path(settings.store) / f"shut-{number.value}").unlink()
        raise UnreachableError(f"{number.value} does not answer")
    key = StageKey(stage="kept", version=1, inputs={"number": number.value})
    return store_of(settings).answer(key, Number, lambda: number)


def numbers(*values: int) -> Batch[Number]:
    return Batch(Number(value=value) for value in values)


def ended(runs: Sequence[PrefectFuture[Any]]) -> list[tuple[str, str | None]]:
    wait(list(runs))
    return [(str(run.state.name), run.state.message) for run in runs]


def test_memory_stays_flat_over_many_steps(tmp_path: Path, prefect_server: None) -> None:
    settings = Settings(store=str(tmp_path))
    use_one_heap()

    @flow(task_runner=AT_ONCE)
    def many() -> tuple[Batch[Number], int]:
        def run(number: int) -> Batch[Number]:
            runs = batched(large).map([numbers(at) for at in range(number)], unmapped(settings))
            return results([{"large": run} for run in runs], [1] * number)["large"]

        with limited(Limits(Costs(), steps=2)):
            run(STEPS // 10)
            reset_peak_memory()
            before = peak_memory()
            return run(STEPS), peak_memory() - before

    found, grown = many()
    assert found.items == numbers(*range(STEPS)).items
    # All blocks together are 2.5 GB; what Prefect keeps of a task run is some tens of kB.
    assert grown < 2**26 + 2 * BYTES


def test_a_task_is_called_submitted_and_mapped_in_a_flow_that_knows_nothing_of_ours(
    tmp_path: Path, prefect_server: None
) -> None:
    settings = Settings(store=str(tmp_path))

    @flow
    def theirs() -> list[Any]:
        called = kept(Number(value=1), settings)
        submitted = kept.submit(called, settings)
        assert kept(called, settings) == with_retries(kept, 2)(called, settings) == called
        mapped = kept.map([Number(value=1), Number(value=2)], unmapped(settings))
        assert ended([submitted, *mapped]) == [(CACHED, "found in the store")] * 2 + [("Completed", None)]
        return [called, submitted.result(), *mapped.result()]

    assert [number.value for number in theirs()] == [1, 1, 1, 2]


def test_the_state_of_a_batch_tells_what_was_found(tmp_path: Path, prefect_server: None) -> None:
    settings = Settings(store=str(tmp_path))

    @flow
    def thrice() -> None:
        found = []
        for batch in (numbers(1, 2), numbers(1, 2, 3), numbers(3, 2)):
            found += ended([batched(kept).submit(batch, settings)])
        assert found == [
            ("Completed", None),
            ("Completed", "2 of 3 found in the store"),
            (CACHED, "found in the store"),
        ]

    thrice()


@pytest.mark.parametrize("shut", [[], [2]])
def test_a_batch_that_is_tried_again_finds_what_it_made(tmp_path: Path, prefect_server: None, shut: list[int]) -> None:
    settings = Settings(store=str(tmp_path))
    task = with_retries(batched(kept), 1).with_options(retry_delay_seconds=0)
    heard: list[str] = []

    @flow
    def once() -> tuple[int, int]:
        for number in shut:
            (tmp_path / f"shut-{number}").touch()
        costs = Costs()
        with limited(Limits(costs, steps=2)), heard_by(lambda step: heard.append(str(step))):
            runs = task.map([numbers(0, 1), numbers(-1), numbers(2, 3)], unmapped(settings))
            found = results([{"kept": run} for run in runs], [2, 1, 2])
            assert found["kept"].items == numbers(0, 1, 2, 3).items
        (cost,) = costs.stages
        return cost.made, cost.cached

    assert [once(), once()] == [(4, 0), (0, 4)] if not shut else once() == (4, 0)
    found = {2: ", 2 found in the store", 3: ", 2 found in the store", 5: ", 4 found in the store"}
    assert heard[-3:] == [f"kept: partition {done} of 5{'' if shut else found[done]}" for done in (2, 3, 5)]


def test_of_a_flow_of_ours_so_many_are_computed_and_so_many_streamed_at_once(prefect_server: None) -> None:
    most, busy, lock = {"here": 0, "there": 0}, {"here": 0, "there": 0}, threading.Lock()

    def work(name: str) -> Callable[[Number], Outcome[Number]]:
        def step(number: Number) -> Outcome[Number]:
            with lock:
                busy[name] += 1
                most[name] = max(most[name], busy[name])
            time.sleep(0.05)
            with lock:
                busy[name] -= 1
            return Outcome(number, cached=False)

        return step

    tasks = [batched(stage(name="here")(work("here"))), batched(networked(name="there")(work("there")))]

    @flow(task_runner=AT_ONCE)
    def many() -> None:
        with limited(Limits(Costs(), steps=2)):
            runs = [task.submit(numbers(at)) for at in range(8) for task in tasks]
            results([{"any": run} for run in runs], [1] * 16)

    many()
    assert most == {"here": 2, "there": 2}


def test_what_fails_is_told_at_once_and_what_has_not_begun_does_not_begin(prefect_server: None) -> None:
    begun = []

    @networked(name="there")
    def fetch(number: Number) -> Outcome[Number]:
        begun.append(number.value)
        time.sleep(0.1)
        return Outcome(number, cached=False)

    @stage(name="here")
    def fail(number: Number) -> Outcome[Number]:
        raise DataError(f"{number.value} is bad")

    @flow(task_runner=AT_ONCE)
    def many() -> None:
        with limited(Limits(Costs(), steps=1)):
            fetched = [batched(fetch).submit(numbers(at)) for at in range(20)]
            failed = [batched(fail).submit(batch) for batch in fetched]
            runs = zip(fetched, failed, strict=True)
            results([{"there": there, "here": here} for there, here in runs], [1] * 20)

    with pytest.raises(DataError, match=r"^0 is bad$"):
        many()
    assert len(begun) < 10


def test_damage_is_told_of_all_batches_though_some_wait_for_a_damaged_one(prefect_server: None) -> None:
    @stage(name="read")
    def read(number: Number) -> Outcome[Number]:
        if number.value:
            raise CorruptObjectError(f"{number.value} is damaged")
        return Outcome(number, cached=False)

    @stage(name="order")
    def order(_first: Batch[Number]) -> str:
        return "A B"

    @stage(name="scale")
    def scale(number: Number, _order: str) -> Outcome[Number]:
        return Outcome(number, cached=False)

    @flow(task_runner=AT_ONCE)
    def many() -> None:
        batches: list[Any] = [batched(read).submit(numbers(value)) for value in (1, 0, 2)]
        ordered = order.submit(batches[0])
        scaled = [batched(scale).submit(batch, ordered) for batch in batches]
        results([{"read": one, "scale": other} for one, other in zip(batches, scaled, strict=True)], [1] * 3)

    with pytest.raises(CorruptObjectError, match=r"^1 is damaged; 2 is damaged$"):
        many()


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
