"""S3's credentials that come from elsewhere than AWS's own tools look: lent to the environment, renewed on demand."""

import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress

from tasks.core.base.errors import TahoeFlowError

KEY_NAMES = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
NAMES = (*KEY_NAMES, "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3")
# Keys of two origins do not go together.
_REPLACED = (*KEY_NAMES, "AWS_PROFILE")


class Keyring:
    """What the environment of this process holds for S3.

    Attributes:
        changes: how often it has changed: who has looked at it before the last change must look again.
    """

    def __init__(self) -> None:
        self.changes = 0
        self._lock = threading.Lock()
        self._read: Callable[[], Mapping[str, str]] | None = None
        self._lent: Mapping[str, str] = {}

    @contextmanager
    def lend(self, read: Callable[[], Mapping[str, str]]) -> Iterator[None]:
        """Put what `read` gives, values by `NAMES`, into the environment for as long as the block lasts."""
        before = {name: os.environ.get(name) for name in (*NAMES, *_REPLACED)}
        self._put(read())
        self._read = read
        try:
            yield
        finally:
            self._read = None
            for name in before:
                os.environ.pop(name, None)
            self._put({name: value for name, value in before.items() if value is not None})

    def renew(self, seen: int) -> bool:
        """Read anew what is lent, unless that was done after so many changes; say whether there is something new."""
        with self._lock:
            if self._read is not None and self.changes == seen:
                # What S3 says of the old ones tells more than why there are no new ones.
                with suppress(TahoeFlowError):
                    lent = self._read()
                    if lent != self._lent:
                        self._put(lent)
            return self.changes != seen

    def _put(self, lent: Mapping[str, str]) -> None:
        if lent.keys() & set(KEY_NAMES):
            for name in _REPLACED:
                os.environ.pop(name, None)
        os.environ.update(lent)
        self._lent = lent
        self.changes += 1


keyring = Keyring()
