"""Shares of work that end together."""

import heapq

from hypothesis import given
from hypothesis import strategies as st

from tasks.core.base.tapering import tapered


@given(st.integers(1, 100_000), st.integers(1, 1_000))
def test_hold_all_and_none_is_larger_than_asked(items: int, size: int) -> None:
    shares = tapered(items, size)
    assert sum(shares) == items
    assert all(0 < share <= size for share in shares)


def test_leave_workers_less_time_without_work() -> None:
    def idle(shares: list[int], workers: int) -> float:
        busy = [0] * workers
        for share in shares:
            heapq.heapreplace(busy, busy[0] + share)
        return max(busy) * workers / sum(shares) - 1

    items, size = 48_000, 219
    alike = [size] * (items // size) + [items % size]
    assert idle(tapered(items, size), 16) < 0.01
    assert idle(alike, 16) > 0.02
