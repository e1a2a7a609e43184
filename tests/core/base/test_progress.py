import pytest

from tasks.core.base.progress import Gauge, Progress, Sparsely, heard_by, report

SHARES = {"read": 1.0, "fit": 3.0}


def test_a_gauge_rises_from_stage_to_stage_and_ends_full() -> None:
    gauge = Gauge(SHARES)
    steps = [
        Progress("read", "partition", 1, 2),
        Progress("read", "partition", 2, 2),
        *(Progress("fit", "pass", number) for number in range(1, 200)),
        Progress("fit", "", 1, 1),
    ]
    shares = [gauge.read(step) for step in steps]
    assert shares[:2] == [0.125, 0.25]
    assert shares == sorted(shares)
    assert shares[2] == pytest.approx(0.25 + 0.75 * 0.1)
    assert shares[-2] <= shares[-1] == 1.0


def test_a_gauge_does_not_fall_when_stages_begin_anew_or_are_unknown() -> None:
    gauge = Gauge(SHARES)
    gauge.read(Progress("fit", "pass", 3))
    reached = gauge.share
    assert gauge.read(Progress("read", "partition", 1, 2)) == reached
    assert gauge.read(Progress("another", "", 1, 1)) == reached


def test_all_listeners_hear_while_they_listen() -> None:
    heard: list[str] = []
    with heard_by(lambda step: heard.append(f"first: {step}")):
        with heard_by(lambda step: heard.append(f"second: {step}")):
            report(Progress("svd", "pass", 3, note="worst residual 2e-3"))
        report(Progress("svd", "", 1, 1))
    report(Progress("svd", "", 1, 1))
    line = "svd: pass 3, worst residual 2e-3"
    assert heard == [f"first: {line}", f"second: {line}", "first: svd: done"]


def test_of_many_steps_some_are_told_even_where_several_are_done_at_a_time() -> None:
    told: list[int | None] = []
    sparsely = Sparsely(lambda step: told.append(step.done), lines=4)
    for done in (21, 42, 63, 84, 100):
        sparsely(Progress("read", "partition", done, 100))
    assert told == [42, 63, 84, 100]
    sparsely(Progress("read", note="waiting"))
    sparsely(Progress("write", "partition", 1, 1))
    assert told[4:] == [None, 1]
