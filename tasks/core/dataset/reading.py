"""What reading a dataset has in common, wherever it lies: what goes wrong, told in one line."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa

from tasks.core.base.errors import (
    MemoryShortError,
    SourceError,
    TahoeFlowError,
    UnreachableError,
    UnreadableError,
    first_line,
)
from tasks.core.base.memory import is_to_be_had, wants_memory, wants_threads

OFFLINE = "a local folder in the same layout, or --dataset synthetic, works without a network"
_REFUSED = (
    "the Hub refuses the token of HF_TOKEN, or of 'hf auth login': it has run out, or may not read this; give one that "
    "may, or none for what is public"
)
# What Arrow says where it says nothing by the class of its error.
_NO_MEMORY = re.compile(
    r"\b[mr]e?alloc of size \d+ failed|allocat\w+ (error|failed)|cannot allocate|out of memory", re.I
)
# Bytes with which what cannot be decoded is bad, and memory was not what it lacked: some codecs tell no difference. A
# page has no more than the larger, with its values.
_LEAST_ROOM, _MOST_ROOM = 2**26, 2**32


@contextmanager
def translated(dataset: str, what: str) -> Iterator[None]:
    """Have whatever goes wrong in reading something of a dataset raised as an error that names it.

    Raises:
        UnreadableError: it cannot be decoded.
        MemoryShortError: there is too little memory, or there are too few threads, to read it.
        UnreachableError: its host does not answer now.
        SourceError: it cannot be read.
    """
    try:
        yield
    except TahoeFlowError:
        raise
    except Exception as error:  # reading may fail in whatever way the libraries below us fail
        told = f"{what} of '{dataset}' cannot be"
        if _is_short(error, _LEAST_ROOM):
            raise MemoryShortError(_short(f"{told} read", error)) from error
        if _is_undecodable(error):
            raise UnreadableError(f"{told} decoded: {first_line(error)}") from error
        if _may_pass(error):
            raise UnreachableError(f"{told} read: {first_line(error)}; {OFFLINE}") from error
        if _status(error) in (401, 403):
            raise SourceError(f"{told} read: {_REFUSED}") from error
        raise SourceError(f"{told} read: {first_line(error)}") from error


@contextmanager
def decoding(size: int) -> Iterator[None]:
    """Have what fails for want of memory, in decoding so many bytes, raised as that, whatever the codec says.

    Raises:
        MemoryError: there is too little.
    """
    try:
        yield
    except Exception as error:  # as in `translated`
        if _is_short(error, min(max(2 * size, _LEAST_ROOM), _MOST_ROOM)) and not wants_threads(error):
            raise MemoryError(first_line(error)) from error
        raise


@contextmanager
def in_little_memory(what: str) -> Iterator[None]:
    """Have want of memory, or of threads, raised as an error that names what was being done.

    Raises:
        MemoryShortError: there was too little.
    """
    try:
        yield
    except TahoeFlowError:
        raise
    except (MemoryError, OSError, RuntimeError, pa.ArrowException) as error:
        if _is_short(error):
            raise MemoryShortError(_short(f"{what} failed", error)) from error
        raise


def _short(what: str, error: Exception) -> str:
    want, remedy = "memory", "fewer --workers or smaller --block_cells need less"
    if wants_threads(error):
        want = "threads"
        remedy = "fewer --workers need less, or raise the limit (ulimit -u, or pids of the container)"
    return (
        f"{what} for want of {want} ({first_line(error)}): {remedy}; what is done is kept, and the same command goes "
        "on from there"
    )


def _is_short(error: Exception, room: int = 0) -> bool:
    """Whether there is too little memory, or too few threads; by so much memory that is to be had for what says not."""
    if wants_memory(error) or wants_threads(error):
        return True
    return _is_undecodable(error) and (
        _NO_MEMORY.search(str(error)) is not None or (room > 0 and not is_to_be_had(room))
    )


def _is_undecodable(error: Exception) -> bool:
    # Arrow reports bad pages as a bare OSError; what concerns files and networks is a subclass or has an errno.
    return isinstance(error, pa.ArrowException | UnicodeError) or (type(error) is OSError and error.errno is None)


def _status(error: Exception) -> int:
    """Status of the answer that an error tells of, 0 where it tells of none."""
    return int(getattr(getattr(error, "response", None), "status_code", 0))


def _may_pass(error: Exception) -> bool:
    if _status(error) == 429 or _status(error) >= 500 or isinstance(error, TimeoutError):
        return True
    # The clients of the Hub and of S3 have errors of their own, some named as Python's.
    return any(
        kind.__name__ in ("TransportError", "HTTPClientError", "ConnectionError") for kind in type(error).__mro__
    )
