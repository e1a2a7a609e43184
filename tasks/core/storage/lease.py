"""Leases: while one run makes a result, others that want it wait for it instead of making it as well.

A lease only saves work. Results are found by what made them and appear whole, so two runs that make the same one
at once are both right, and a lease may be taken from a holder that only seems dead. A holder renews its lease while
it works. One that died is found out at once on its own machine; elsewhere by its silence, on the waiter's own clock.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, ValidationError

from tasks.core.base.deadline import check_deadline
from tasks.core.base.errors import StoreError
from tasks.core.base.process import Process, this_process
from tasks.core.base.progress import Progress, report
from tasks.core.storage.files import Files

R = TypeVar("R")

LEASES = "leases"
_SILENCE_SECONDS = 30.0
# A holder may be late with a sign or two and still be taken for alive.
_SIGNS = 4
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 2.0
# A wait that is worth telling.
_LONG_SECONDS = 1.0
# A lease that is there may be gone when it is looked at, but not each time.
_TRIES = 3


class Holder(BaseModel):
    """What a lease says of who holds it: each sign of life is another text."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    sign: int
    process: Process


class Lease:
    """The right to make one result.

    Args:
        files: of the store.
        stage: whose result it is.
        digest: which result.
        silence: seconds without a sign of life after which a holder on another machine counts as dead.
    """

    def __init__(self, files: Files, stage: str, digest: str, silence: float = _SILENCE_SECONDS) -> None:
        self.files = files
        self.stage = stage
        self.path = f"{LEASES}/{stage}-{digest}.json"
        self.silence = silence
        self._name = uuid4().hex
        self._dead: bytes | None = None
        self._is_lost = False
        self._released = threading.Event()
        self._renewing: threading.Thread | None = None

    def take(self) -> bool:
        """Take it if it is free, or held by one that `wait` found dead; say whether the result is ours to make.

        It is as well on a store that cannot create a file exclusively: there, every run makes all that it needs.
        """
        for _ in range(_TRIES):
            if self.files.create(self.path, self._sign(0)):
                return self._begin()
            seen = self.files.read(self.path)
            if seen is not None:
                return self._take_over(seen)
        return True

    def wait(self) -> None:
        """Wait until it is free or its holder is dead."""
        seen, pause, unchanged, waited = None, _FIRST_PAUSE, 0.0, 0.0
        while (now := self.files.read(self.path)) is not None:
            # Time in which the store did not answer tells nothing of the holder: only the pauses count.
            unchanged = unchanged if now == seen else 0.0
            seen = now
            if unchanged >= self.silence or _is_gone(now):
                self._dead = now
                return
            check_deadline()
            time.sleep(pause)
            if waited < _LONG_SECONDS <= waited + pause:
                report(Progress(self.stage.replace("_", " "), note="waiting for another run that makes the same"))
            unchanged, waited = unchanged + pause, waited + pause
            pause = min(2 * pause, _LONGEST_PAUSE)

    def release(self) -> None:
        """Let others have it."""
        if self._renewing is None:
            return
        self._released.set()
        self._renewing.join()
        # One that stays is that of a silent holder.
        with suppress(StoreError):
            if not self._is_lost:
                self.files.remove(self.path)

    def _take_over(self, seen: bytes) -> bool:
        # Ours is there if a write was tried again whose answer alone was lost.
        if _name(seen) == self._name:
            return self._begin()
        if seen != self._dead:
            return False
        self.files.write(self.path, self._sign(0))
        # Others may have done the same: who wrote last has it.
        time.sleep(0.2 if self.files.is_local else 1.0)
        return self._is_ours() and self._begin()

    def _begin(self) -> bool:
        self._renewing = threading.Thread(target=self._renew, name=f"renews {self.path}", daemon=True)
        self._renewing.start()
        return True

    def _renew(self) -> None:
        sign = 0
        while not self._released.wait(self.silence / _SIGNS):
            with suppress(StoreError):
                if not self._is_ours():
                    # Taken over, while this process was stopped or cut off.
                    self._is_lost = True
                    return
                sign += 1
                self.files.write(self.path, self._sign(sign))

    def _is_ours(self) -> bool:
        return _name(self.files.read(self.path) or b"") == self._name

    def _sign(self, number: int) -> bytes:
        return Holder(name=self._name, sign=number, process=this_process()).model_dump_json().encode()


@contextmanager
def one_at_a_time(lease: Lease, find: Callable[[], R | None]) -> Iterator[R | None]:
    """Give what `find` finds, once whoever is making it is done; None if it is for the block to make it."""
    while not lease.take():
        lease.wait()
        found = find()
        if found is not None:
            yield found
            return
    try:
        # It may have been finished after it was looked for and before the lease was taken.
        yield find()
    finally:
        lease.release()


def _holder(text: bytes) -> Holder | None:
    try:
        return Holder.model_validate_json(text)
    except ValidationError:
        return None


def _name(text: bytes) -> str | None:
    holder = _holder(text)
    return None if holder is None else holder.name


def _is_gone(text: bytes) -> bool:
    holder = _holder(text)
    return holder is not None and holder.process.is_gone
