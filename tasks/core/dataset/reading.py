"""What reading a dataset has in common, wherever it lies: what goes wrong, told in one line."""

import errno
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

OFFLINE = "a local folder in the same layout, or --dataset synthetic, works without a network"
_REFUSED = (
    "the Hub refuses the token of HF_TOKEN, or of 'hf auth login': it has run out, or may not read this; give one that "
    "may, or none for what is public"
)
# What Arrow says where it says nothing by the class of its error.
_NO_MEMORY = re.compile(
    r"\b[mr]e?alloc of size \d+ failed|allocat\w+ (error|failed)|cannot allocate|out of memory", re.I
)


@contextmanager
def translated(dataset: str, what: str) -> Iterator[None]:
    """Have whatever goes wrong in reading something of a dataset raised as an error that names it.

    Raises:
        UnreadableError: it cannot be decoded.
        MemoryShortError: there is too little memory to read it.
        UnreachableError: its host does not answer now.
        SourceError: it cannot be read.
    """
    try:
        yield
    except TahoeFlowError:
        raise
    except Exception as error:  # reading may fail in whatever way the libraries below us fail
        told = f"{what} of '{dataset}' cannot be"
        if _wants_memory(error):
            raise MemoryShortError(_short(f"{told} read", error)) from error
        if _is_undecodable(error):
            raise UnreadableError(f"{told} decoded: {first_line(error)}") from error
        if _may_pass(error):
            raise UnreachableError(f"{told} read: {first_line(error)}; {OFFLINE}") from error
        if _status(error) in (401, 403):
            raise SourceError(f"{told} read: {_REFUSED}") from error
        raise SourceError(f"{told} read: {first_line(error)}") from error


@contextmanager
def in_little_memory(what: str) -> Iterator[None]:
    """Have want of memory raised as an error that names what was being done.

    Raises:
        MemoryShortError: there was too little.
    """
    try:
        yield
    except TahoeFlowError:
        raise
    except (MemoryError, OSError) as error:
        if _wants_memory(error):
            raise MemoryShortError(_short(f"{what} failed", error)) from error
        raise


def _short(what: str, error: Exception) -> str:
    return (
        f"{what} for want of memory ({first_line(error)}): fewer --workers or smaller --block_cells need less; what is "
        "done is kept, and the same command goes on from there"
    )


def _wants_memory(error: Exception) -> bool:
    is_full = isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM)
    return is_full or (_is_undecodable(error) and _NO_MEMORY.search(str(error)) is not None)


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
