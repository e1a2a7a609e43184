"""S3's credentials that come from elsewhere than AWS's own tools look: held by this process under a name.

Only the file systems that are opened with that name have them: they are in no environment, which children inherit and
other runs of the process share, and in nothing that is written or sent.
"""

import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from tasks.core.base.errors import StoreError, TahoeFlowError

KEY_NAMES = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
_REGIONS, _ENDPOINTS = ("AWS_REGION", "AWS_DEFAULT_REGION"), ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
NAMES = (*KEY_NAMES, *_REGIONS, *_ENDPOINTS)


class Keyring:
    """What this process holds, by name."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._readers: dict[str, Callable[[], Mapping[str, str]]] = {}
        self._held: dict[str, Mapping[str, str]] = {}
        self._changes: dict[str, int] = {}

    def hold(self, name: str, read: Callable[[], Mapping[str, str]]) -> None:
        """Hold what `read` gives, values by `NAMES`; it is asked again where S3 refuses them."""
        held = read()
        with self._lock:
            self._readers[name] = read
            self._put(name, held)

    def options(self, name: str | None) -> dict[str, Any]:
        """Give s3fs's options for what is held; none where AWS's own tools are to look.

        Raises:
            StoreError: nothing is held under this name.
        """
        if name is None:
            return {}
        held = self._held.get(name)
        if held is None:
            raise StoreError(f"the credentials of {name} have not been read by this process")
        key, secret, token = (held.get(of_key) for of_key in KEY_NAMES)
        places = {"region_name": _first(held, _REGIONS), "endpoint_url": _first(held, _ENDPOINTS)}
        return {
            "key": key,
            "secret": secret,
            "token": token,
            "client_kwargs": {option: value for option, value in places.items() if value is not None},
            # A profile that the environment names is of other keys, and need not be there.
            "session_vars": {"profile": (None, None, None, None)},
        }

    def changes(self, name: str | None) -> int:
        """How often what is held has changed: who has opened with it before the last change must open again."""
        return 0 if name is None else self._changes.get(name, 0)

    def renew(self, name: str | None, seen: int) -> bool:
        """Read anew what is held, unless that was done after so many changes; say whether there is something new."""
        if name is None:
            return False
        with self._lock:
            if name in self._readers and self.changes(name) == seen:
                # What S3 says of the old ones tells more than why there are no new ones.
                with suppress(TahoeFlowError):
                    self._put(name, self._readers[name]())
            return self.changes(name) != seen

    def _put(self, name: str, held: Mapping[str, str]) -> None:
        if held != self._held.get(name):
            self._held[name] = held
            self._changes[name] = self.changes(name) + 1


def _first(held: Mapping[str, str], names: tuple[str, ...]) -> str | None:
    return next((held[name] for name in names if name in held), None)


keyring = Keyring()
