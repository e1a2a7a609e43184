from copy import copy

from tasks.core.numerics.kept_blocks import KeepFirst, forget_blocks


def test_the_first_blocks_are_kept_until_the_budget_is_spent() -> None:
    read: list[int] = []

    def reading(source: int) -> bytes:
        read.append(source)
        return bytes(source)

    keep = KeepFirst(reading, len, budget=10)
    for _ in range(3):
        assert [len(keep(source)) for source in (4, 5, 6, 1, 7)] == [4, 5, 6, 1, 7]
    assert read == [4, 5, 6, 1, 7, 6, 7, 6, 7]


def test_a_process_that_gets_it_again_and_again_keeps_blocks_of_its_own_until_it_gets_another() -> None:
    fit, other = KeepFirst(abs, int.bit_length, 100), KeepFirst(abs, int.bit_length, 100)
    here = copy(fit)
    assert here is not fit
    assert copy(fit) is here
    copy(other)
    assert copy(fit) is not here
    forget_blocks()
    assert copy(fit) is not here
