"""What reading a dataset has in common, on the Hub or in a folder: what goes wrong, told in one line."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa

from tasks.core.base.errors import DataError, SourceError, TahoeFlowError, UnreachableError, first_line
from tasks.core.dataset.hub_waits import keep_waits

OFFLINE = "a local folder in the same layout, or --dataset synthetic, works without a network"
# Row groups are read one by one: a larger block would fetch half of the next one as well.
BLOCK_BYTES = 1 << 16


@contextmanager
def translated(dataset: str, what: str) -> Iterator[None]:
    """Have whatever goes wrong in reading something of a dataset raised as an error that names it.

    Raises:
        DataError: it cannot be decoded.
        UnreachableError: its host does not answer now.
        SourceError: it cannot be read.
    """
    if not Path(dataset).is_dir():
        keep_waits()
    try:
        yield
    except TahoeFlowError:
        raise
    except Exception as error:  # reading may fail in whatever way the libraries below us fail
        if _is_undecodable(error):
            raise DataError(f"{what} of '{dataset}' cannot be decoded: {first_line(error)}") from error
        kind = UnreachableError if _may_pass(error) else SourceError
        raise kind(f"{what} of '{dataset}' cannot be read: {first_line(error)}; {OFFLINE}") from error


def _is_undecodable(error: Exception) -> bool:
    # Arrow reports bad pages as a bare OSError; what concerns files and networks is a subclass or has an errno.
    return isinstance(error, pa.ArrowException) or (type(error) is OSError and error.errno is None)


def _may_pass(error: Exception) -> bool:
    status = getattr(getattr(error, "response", None), "status_code", 0)
    if status == 429 or status >= 500 or isinstance(error, ConnectionError | TimeoutError):
        return True
    # The Hub's client has its own copy of httpx, and `datasets` reports an outage while it lists files as none found.
    by_transport = any(kind.__name__ == "TransportError" for kind in type(error).__mro__)
    return by_transport or "LocalEntryNotFoundError" in str(error)
