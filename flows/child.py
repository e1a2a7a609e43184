"""Processes that end with the one that started them, and when it says so."""

import ctypes
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker

_PR_SET_PDEATHSIG = 1
_STOPS = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}


def end_with_parent() -> None:
    """Ask the system, in a new process, for SIGTERM once its parent is gone, kill -9 included (Linux only)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Keep from the processes that this thread starts what stops this one: it ends them, in order."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _STOPS)
    try:
        # It starts with the first of others, if not before, and lets signals through again.
        resource_tracker.ensure_running()
        signal.pthread_sigmask(signal.SIG_BLOCK, _STOPS)
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
