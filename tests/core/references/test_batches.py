import pytest

from tasks.core.base.errors import CorruptObjectError
from tasks.core.references.batches import Batch, handle, in_batches
from tasks.core.storage.store import Outcome, Reference


class Part(Reference):
    number: int

    @property
    def origin(self) -> str:
        return f"shard {self.number // 3} from row {self.number % 3 * 10_000:,}"

    @property
    def is_empty(self) -> bool:
        return self.number < 0


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


def test_what_has_no_cells_is_passed_over() -> None:
    assert handle([Part(number=-1), *parts(2), Part(number=-1)], found) == [found(part) for part in parts(2)]


def test_all_damage_of_a_batch_is_told_at_once_and_the_rest_is_made() -> None:
    made = []

    def step(part: Part) -> Outcome[Part]:
        if part.number in {1, 3}:
            raise CorruptObjectError(f"{part.number}.arrow is gone")
        made.append(part.number)
        return found(part)

    with pytest.raises(CorruptObjectError, match=r"^1\.arrow is gone; 3\.arrow is gone$"):
        handle(parts(5), step)
    assert made == [0, 2, 4]


def found(part: Part) -> Outcome[Part]:
    return Outcome(part, cached=True)
