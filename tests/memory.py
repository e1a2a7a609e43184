"""How much memory a piece of code takes at most."""

import threading
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pyarrow as pa

# Often enough to see what is held while many partitions pass by.
_SECONDS = 0.001


@dataclass
class Most:
    """Bytes that Python, NumPy and Arrow held at most, above what they held before."""

    bytes: int = 0


@contextmanager
def most_memory() -> Iterator[Most]:
    """Measure the block; it is known when the block has ended."""
    found, ended = Most(), threading.Event()
    before = most_of_arrow = pa.total_allocated_bytes()

    def look() -> None:
        nonlocal most_of_arrow
        while not ended.wait(_SECONDS):
            most_of_arrow = max(most_of_arrow, pa.total_allocated_bytes())

    looking = threading.Thread(target=look)
    tracemalloc.start()
    looking.start()
    try:
        yield found
        found.bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        ended.set()
        looking.join()
        found.bytes += most_of_arrow - before
