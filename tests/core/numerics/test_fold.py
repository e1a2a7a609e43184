import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tasks.core.base.errors import NumericsError
from tasks.core.numerics.fold import Blocks, KeepFirst, in_order


def test_results_come_in_order_whoever_finishes_first() -> None:
    def slow_if_even(number: int) -> int:
        time.sleep(0.01 * (number % 2 == 0))
        return number

    with ThreadPoolExecutor(4) as executor:
        assert list(in_order(executor, slow_if_even, range(20), ahead=5)) == list(range(20))


def test_no_more_than_so_many_are_under_way_or_waiting() -> None:
    waiting, most, lock = 0, 0, threading.Lock()

    def enter(number: int) -> int:
        nonlocal waiting, most
        with lock:
            waiting += 1
            most = max(most, waiting)
        return number

    with ThreadPoolExecutor(8) as executor:
        for _ in in_order(executor, enter, range(50), ahead=3):
            time.sleep(0.001)
            with lock:
                waiting -= 1
    assert most <= 3


def test_an_error_comes_at_its_turn_and_stops_the_rest() -> None:
    begun = []

    def fail_at_two(number: int) -> int:
        begun.append(number)
        if number == 2:
            raise ZeroDivisionError
        return number

    seen: list[int] = []
    with ThreadPoolExecutor(1) as executor, pytest.raises(ZeroDivisionError):
        seen.extend(in_order(executor, fail_at_two, range(100), ahead=2))
    assert begun[-1] < 10


def test_ahead_must_be_positive() -> None:
    with ThreadPoolExecutor(1) as executor, pytest.raises(ValueError, match="ahead=0"):
        list(in_order(executor, str, [1], ahead=0))


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


def test_the_first_blocks_are_kept_until_the_budget_is_spent() -> None:
    read: list[int] = []

    def reading(source: int) -> bytes:
        read.append(source)
        return bytes(source)

    keep = KeepFirst(reading, len, budget=10)
    for _ in range(3):
        assert [len(keep(source)) for source in (4, 5, 6, 1, 7)] == [4, 5, 6, 1, 7]
    assert read == [4, 5, 6, 1, 7, 6, 7, 6, 7]
