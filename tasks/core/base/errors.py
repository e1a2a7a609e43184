"""What can go wrong, one class for each thing a caller may want to tell apart.

A message says what was wrong, the values seen, the bound and what to do; the command line prints it as it is.
"""


class TahoeFlowError(Exception):
    """Base of every error that this project raises on purpose."""


class SettingsError(TahoeFlowError, ValueError):
    """A setting is out of range, alone or for the data at hand."""


class SourceError(TahoeFlowError, OSError):
    """A dataset does not exist, cannot be reached or lacks what its layout promises."""


class UnreachableError(SourceError):
    """A dataset cannot be reached now; it may be later."""


class DataError(TahoeFlowError, ValueError):
    """A dataset holds what it must not hold; the message names the shard and the row."""


class UnreadableError(DataError):
    """A part of a dataset cannot be decoded as it was read now: another read may give more."""


class MemoryShortError(TahoeFlowError, MemoryError):
    """There is less memory, or there are fewer threads, than a step needs; what it works on may be as good as any."""


class ModelError(TahoeFlowError, ValueError):
    """A saved model is not whole, or does not fit the dataset or this code."""


class StoreError(TahoeFlowError, OSError):
    """The store or the output cannot be read or written."""


class CorruptObjectError(StoreError):
    """An object in the store is not what was written there."""


class NumericsError(TahoeFlowError, ArithmeticError):
    """A computation met values that it cannot go on with."""


class EngineError(TahoeFlowError, RuntimeError):
    """The processes that work for a run, or what directs them, are gone or cannot be reached."""


def first_line(error: BaseException) -> str:
    """First line of an error's text, or its class where it has none: for use inside our own messages."""
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
