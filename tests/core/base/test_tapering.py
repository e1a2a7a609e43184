"""Shares of work that end together."""

from hypothesis import given
from hypothesis import strategies as st

from tasks.core.base.tapering import tapered
from tasks.core.numerics.workers import AHEAD


@given(st.integers(1, 100_000), st.integers(1, 1_000))
def test_hold_all_and_none_is_larger_than_asked(items: int, size: int) -> None:
    shares = tapered(items, size)
    assert sum(shares) == items
    assert all(0 < share <= size for share in shares)


def test_leave_workers_less_time_without_work() -> None:
    items, size, workers = 10_164, 100, 16
    alike = [size] * (items // size) + [items % size]
    assert _idle(alike, workers, AHEAD * workers) > 0.02
    assert _idle(tapered(items, size), workers, AHEAD * workers) < 0.01


def test_workers_do_not_wait_for_the_result_that_is_next() -> None:
    shares = tapered(10_164, 100)
    for workers in (2, 3, 5, 16, 30):
        assert _idle(shares, workers, AHEAD * workers) <= _idle(shares, workers, len(shares)) + 0.002


def _idle(shares: list[int], workers: int, ahead: int) -> float:
    """Time without work, of all time; a share is begun once all but so many of those before it are done."""
    free, done = [0] * workers, [0] * ahead
    for at, share in enumerate(shares):
        worker = free.index(min(free))
        free[worker] = max(free[worker], done[at]) + share
        done.append(max(done[-1], free[worker]))
    return max(free) * workers / sum(shares) - 1
