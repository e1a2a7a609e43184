import pytest

from tasks.core.base.errors import CorruptObjectError, UnreachableError
from tasks.core.references.batches import Batch, in_batches
from tasks.core.storage.store import Outcome, Reference


class Part(Reference):
    number: int

    @property
    def origin(self) -> str:
        return f"shard {self.number // 3} from row {self.number % 3 * 10_000:,}"


def parts(number: int) -> list[Part]:
    return [Part(number=at) for at in range(number)]


@pytest.mark.parametrize(
    ("number", "cells", "batches"),
    [
        pytest.param(2, 20_000, 2, id="full partitions, each by itself"),
        pytest.param(11, 100_000, 11, id="shards that do not divide into full ones"),
        pytest.param(80, 20_000, 11, id="a few cells of each of many shards"),
        pytest.param(10_164, 95_624_334, 561, id="all of Tahoe-100M"),
        pytest.param(3, 1, 1, id="hardly any cells"),
    ],
)
def test_batches_are_as_many_as_is_sensible_and_hold_all_in_order(number: int, cells: int, batches: int) -> None:
    made = in_batches(parts(number), cells, partition_cells=10_000)
    assert len(made) == batches
    assert [part for batch in made for part in batch.items] == parts(number)


def test_a_batch_says_where_it_begins_and_ends() -> None:
    assert Batch(parts(1)).origin == "shard 0 from row 0"
    assert Batch(parts(5)).origin == "shard 0 from row 0 to shard 1 from row 10,000, 5 partitions"


class Steps:
    """Makes each part once and finds it from then on, but for what goes wrong at some."""

    def __init__(self, found: set[int], wrong: dict[int, Exception]) -> None:
        self.found = found
        self.wrong = wrong

    def __call__(self, part: Part) -> Outcome[Part]:
        if part.number in self.wrong:
            raise self.wrong[part.number]
        cached = part.number in self.found
        self.found.add(part.number)
        return Outcome(part, cached)


def test_what_an_attempt_made_before_it_failed_counts_as_made() -> None:
    batch, steps = Batch(parts(4)), Steps({0}, {2: UnreachableError("no answer")})
    with pytest.raises(UnreachableError):
        batch.handle(steps)
    assert steps.found == {0, 1}
    steps.wrong.clear()
    handled = batch.handle(steps)
    assert handled.results == parts(4)
    assert (handled.made, handled.cached) == (3, 1)


def test_a_batch_tells_each_environment_that_made_its_results_once() -> None:
    def step(part: Part) -> Outcome[Part]:
        return Outcome(part, cached=True, environments=frozenset({"old" if part.number < 3 else "new"}))

    assert Batch(parts(9)).handle(step).environments == {"old", "new"}


def test_all_damage_of_a_batch_is_told_at_once_and_the_rest_is_made() -> None:
    steps = Steps(set(), {at: CorruptObjectError(f"{at}.arrow is gone") for at in (1, 3)})
    with pytest.raises(CorruptObjectError, match=r"^1\.arrow is gone; 3\.arrow is gone$"):
        Batch(parts(5)).handle(steps)
    assert steps.found == {0, 2, 4}
