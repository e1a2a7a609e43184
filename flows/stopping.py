"""How a command is stopped: by Ctrl-C, SIGTERM or a closed terminal alike, in one line and with one exit code."""

import os
import signal
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from flows.child import undisturbed

_STOPPED = 130
_SOON = 0.05


def stoppable(command: Callable[[], int]) -> int:
    """Run a command and give its exit code: a signal interrupts it, a second one ends it at once."""
    with undisturbed():
        pass  # Python's own tracker of semaphores runs from now on, which a closed terminal would end
    _answer(_interrupt)
    signal.signal(signal.SIGALRM, _interrupt)
    before, sys.unraisablehook = sys.unraisablehook, _interrupt_again
    try:
        return command()
    except KeyboardInterrupt:
        return _tell()
    finally:
        # Nothing of what Python does at its end could be stopped in order.
        _answer(signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, 0)
        sys.unraisablehook = before


def _answer(handler: Any) -> None:
    for stop in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(stop) != signal.SIG_IGN:  # as under nohup
            signal.signal(stop, handler)


def _interrupt(*_: Any) -> NoReturn:
    _answer(_leave)
    raise KeyboardInterrupt


def _interrupt_again(ignored: Any) -> None:
    if issubclass(ignored.exc_type, KeyboardInterrupt):
        # It came where nothing can be raised: in a finalizer, or in C that only asks what something is.
        signal.setitimer(signal.ITIMER_REAL, _SOON)
    else:
        sys.__unraisablehook__(ignored)


def _leave(*_: Any) -> NoReturn:
    # The processes that work for this one, and its server, end as it does.
    os._exit(_tell())


def _tell() -> int:
    # Bars that were moving hid the cursor, and did not end their line.
    sys.stderr.write("\n\x1b[?25h" * sys.stderr.isatty() + "error: stopped; the same command goes on from here\n")
    sys.stderr.flush()
    return _STOPPED
