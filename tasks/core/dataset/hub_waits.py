"""Waits that the Hugging Face Hub asks for when it is asked too often: kept, within a bound.

The Hub's client keeps them for some of its requests, however long they are, and for others not at all.
"""

import math
import re
import threading
import time
from typing import Any

from huggingface_hub import get_session

from tasks.core.base.errors import UnreachableError

# The Hub counts requests over five minutes.
MOST_SECONDS = 600.0
# A refusal so long after another is not one more of the same.
_LATELY_SECONDS = 120.0
_REFUSALS = (429, 503)
_RESET = re.compile(r";\s*t\s*=\s*(\d+)")
_HEADERS = ("ratelimit", "retry-after")


class _Waits:
    """Waits after a refusal as long as it says.

    Attributes:
        began: when the Hub began to refuse.
        until: when the last wait that it asked for was over.
    """

    def __init__(self) -> None:
        self.began = self.until = -math.inf
        self._lock = threading.Lock()

    def __call__(self, response: Any) -> None:
        seconds = _asked_for(response) if response.status_code in _REFUSALS else None
        if seconds is not None:
            self._keep(seconds, response)
        elif response.status_code < 400:
            self.until = -math.inf

    def _keep(self, seconds: float, response: Any) -> None:
        with self._lock:
            now = time.monotonic()
            if now > self.until + _LATELY_SECONDS:
                self.began = now
            self.until = max(self.until, now + seconds)
            waited = now - self.began
        if waited + seconds > MOST_SECONDS:
            raise UnreachableError(
                f"{response.url.host} answers {response.status_code} and asks to wait {seconds:,.0f} s, after "
                f"{waited:,.0f} s of waiting: {MOST_SECONDS:,.0f} s are the most; run again later"
            )
        time.sleep(seconds)
        for name in _HEADERS:
            # The client itself need not wait once more.
            response.headers.pop(name, None)


_waits = _Waits()


def keep_waits() -> None:
    """Have the Hub's client of this process wait as it is asked to, all its requests alike.

    A request that is asked to wait more than `MOST_SECONDS`, at once or again and again, raises UnreachableError.
    """
    hooks = get_session().event_hooks["response"]
    if _waits not in hooks:
        hooks.append(_waits)


def _asked_for(response: Any) -> float | None:
    reset = _RESET.search(response.headers.get("ratelimit", ""))
    after = response.headers.get("retry-after", "").strip()
    if reset:
        return float(reset[1])
    return float(after) if after.isdigit() else None
