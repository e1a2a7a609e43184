import threading
import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tasks.core.base.errors import NumericsError
from tasks.core.numerics.block import Float64Array
from tasks.core.numerics.fold import Blocks, groups, in_order
from tasks.core.numerics.workers import Threads, put_to_work


def test_results_come_in_order_whoever_finishes_first() -> None:
    def slow_if_even(number: int) -> int:
        time.sleep(0.01 * (number % 2 == 0))
        return number

    with Threads(4) as workers:
        assert list(in_order(workers, slow_if_even, ((number,) for number in range(20)))) == list(range(20))


def test_no_more_than_so_many_are_under_way_or_waiting() -> None:
    waiting, most, lock = 0, 0, threading.Lock()

    def enter(number: int) -> int:
        nonlocal waiting, most
        with lock:
            waiting += 1
            most = max(most, waiting)
        return number

    with Threads(8) as workers:
        for _ in in_order(workers, enter, ((number,) for number in range(50))):
            time.sleep(0.001)
            with lock:
                waiting -= 1
    assert most <= workers.ahead == 9


def test_an_error_comes_at_its_turn_and_stops_the_rest() -> None:
    begun = []

    def fail_at_two(number: int) -> int:
        begun.append(number)
        if number == 2:
            raise ZeroDivisionError
        return number

    seen: list[int] = []
    with Threads(1) as workers, pytest.raises(ZeroDivisionError):
        seen.extend(in_order(workers, fail_at_two, ((number,) for number in range(100))))
    assert begun[-1] < 10


def blocks_of(numbers: list[int]) -> Blocks[int]:
    return Blocks(numbers, [f"block {number}" for number in numbers], [1] * len(numbers), lambda number: -number, 2)


def test_blocks_are_read_and_mapped_in_order_with_what_each_is_given() -> None:
    given = ["a", "b", "c", "d"]
    assert list(blocks_of([1, 2, 3, 4]).map(lambda block, name: (block, name), given)) == [
        (-1, "a"),
        (-2, "b"),
        (-3, "c"),
        (-4, "d"),
    ]


def test_further_blocks_are_read_where_the_work_is_done() -> None:
    readers: set[int] = set()

    def read(number: int) -> int:
        readers.add(threading.get_ident())
        return 10 * number

    further = replace(blocks_of([1, 2, 3, 4]), read=read)
    assert list(blocks_of([1, 2, 3, 4]).map(lambda block, other: (block, other), further)) == [
        (-1, 10),
        (-2, 20),
        (-3, 30),
        (-4, 40),
    ]
    assert blocks_of([1, 2, 3, 4]).sum(lambda block, other, more: block * other + more, further, range(4)) == -294
    assert threading.get_ident() not in readers


def test_every_so_many_blocks_are_a_sample() -> None:
    sample = blocks_of([1, 2, 3, 4, 5]).every(2)
    assert list(sample.map(abs)) == [1, 3, 5]
    assert list(sample.names) == ["block 1", "block 3", "block 5"]


def test_a_block_that_is_refused_is_named() -> None:
    def refuse(block: int) -> int:
        if block == -3:
            raise NumericsError("is odd")
        return block

    with pytest.raises(NumericsError, match=r"^block 3 is odd$"):
        list(blocks_of([1, 2, 3, 4]).map(refuse))


def test_sums_are_the_same_to_the_last_bit_whoever_works() -> None:
    rows = np.random.default_rng(0).lognormal(sigma=5, size=(1_000, 3)).astype(np.float32)

    def summed(workers: int) -> Float64Array:
        return Blocks.cut(rows, 7, workers).sum(lambda block: block.sum(axis=0, dtype=np.float64))

    assert summed(1).tobytes() == summed(3).tobytes()
    np.testing.assert_allclose(summed(1), rows.sum(axis=0, dtype=np.float64), rtol=1e-12)


class FarThreads(Threads):
    """Get blocks as workers in other processes do."""

    are_far = True
    calls = 0

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        self.calls += 1
        return super().submit(fn, *args, **kwargs)


def test_far_workers_give_the_same_to_the_last_bit_in_fewer_calls() -> None:
    rows = np.random.default_rng(0).lognormal(sigma=5, size=(1_000, 3)).astype(np.float32)
    blocks: Blocks[Any] = Blocks.cut(rows, 7, 2)

    def found() -> tuple[bytes, list[int]]:
        total = blocks.sum(lambda block: block.sum(axis=0, dtype=np.float64))
        return total.tobytes(), list(blocks.map(lambda block, at: at + len(block), range(len(blocks.sources))))

    here = found()
    with FarThreads(2) as workers, put_to_work(workers):
        assert found() == here
        # One that sums and one that does not.
        assert workers.calls == 2 * len(groups(len(blocks.sources))) < 2 * len(blocks.sources)


@pytest.mark.parametrize("workers", [Threads, FarThreads])
@pytest.mark.parametrize("arguments", [range(3), range(5)], ids=["too few", "too many"])
def test_arguments_that_are_not_one_a_block_are_refused(workers: type[Threads], arguments: range) -> None:
    blocks = blocks_of([1, 2, 3, 4])
    with workers(2) as here, put_to_work(here):
        with pytest.raises(ValueError, match="zip"):
            list(blocks.map(lambda _, argument: argument, arguments))
        with pytest.raises(ValueError, match="zip"):
            blocks.sum(lambda _, argument: argument, arguments)


@pytest.mark.parametrize(
    ("blocks", "large", "small", "number"), [(1, 1, 1, 1), (10, 1, 1, 10), (100, 8, 1, 19), (48_000, 219, 13, 395)]
)
def test_groups_are_many_enough_for_many_workers_and_few_enough_to_add_up(
    blocks: int, large: int, small: int, number: int
) -> None:
    sizes = groups(blocks)
    assert (sizes[0], sizes[-min(blocks, 2)], len(sizes)) == (large, small, number)
    assert sum(sizes) == blocks
