"""How many faults of each kind were done, and how many of them the project came through."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

done: Counter[str] = Counter()
passed: Counter[str] = Counter()


@contextmanager
def fault(kind: str, number: int = 1) -> Iterator[None]:
    """Count so many faults of a kind as done, and as passed if the block ends well."""
    done[kind] += number
    yield
    passed[kind] += number


def table() -> list[str]:
    """A line for each kind, under a head; nothing where nothing was done."""
    if not done:
        return []
    width = max(map(len, done))
    rows = [("fault", "done", "passed"), *((kind, f"{done[kind]:,}", f"{passed[kind]:,}") for kind in done)]
    return [f"{kind:<{width}}  {number:>6}  {good:>6}" for kind, number, good in rows]
