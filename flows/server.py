"""Which Prefect server a run reports to: the one that is configured, or a temporary one of its own.

Prefect would start a temporary server by itself, but only once the flow begins, and after importing the whole server
into the run's process. Started here instead it comes up while the run's own modules are imported: half the wait, and
less memory.
"""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
from prefect.settings import PREFECT_API_URL, PREFECT_LOGGING_TO_API_ENABLED, get_current_settings, temporary_settings

from flows.child import end_with_parent
from tasks.core.base.errors import TahoeFlowError, first_line

_ANSWER_SECONDS = 5.0
_START_SECONDS = 120.0
# A server of one run has nothing to schedule and no page to show.
_TEMPORARY = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_UI_ENABLED": "false",
    "PREFECT_SERVER_LOGGING_LEVEL": "CRITICAL",
}


class ServerError(TahoeFlowError, ConnectionError):
    """No Prefect server answers."""


class Server:
    """The server of a run.

    Attributes:
        url: of its API.
        process: of a temporary server, None for one that was configured.
    """

    def __init__(self, url: str, process: subprocess.Popen[bytes] | None) -> None:
        self.url = url
        self.process = process

    def __str__(self) -> str:
        if self.process is None:
            return f"Reporting to the Prefect server at {self.url}."
        return (
            "No Prefect server is configured: starting a temporary one takes some seconds. "
            "It leaves with its task history; what happened is in run.json."
        )

    def check(self) -> None:
        """Wait until the server answers.

        Raises:
            ServerError: it does not.
        """
        if self.process is None:
            self._check_configured()
        else:
            self._await_start(self.process)

    def _check_configured(self) -> None:
        try:
            httpx.get(f"{self.url}/health", timeout=_ANSWER_SECONDS)
        except httpx.HTTPError as error:
            raise ServerError(
                f"the Prefect server at {self.url} does not answer ({type(error).__name__}): start it with "
                "'prefect server start', or unset PREFECT_API_URL to use a temporary one"
            ) from error

    def _await_start(self, process: subprocess.Popen[bytes]) -> None:
        until = time.monotonic() + _START_SECONDS
        while process.poll() is None and time.monotonic() < until:
            try:
                httpx.get(f"{self.url}/health", timeout=_ANSWER_SECONDS)
            except httpx.HTTPError:
                time.sleep(0.05)
            else:
                return
        raise ServerError(
            f"a temporary Prefect server did not start within {_START_SECONDS:g} s: "
            "'prefect server start' shows why; PREFECT_API_URL names another"
        )


def configured() -> Server:
    """Give the server that is configured.

    Raises:
        ServerError: none is.
    """
    url = get_current_settings().api.url
    if url is None:
        raise ServerError("no Prefect server is configured: 'make serve' starts one; PREFECT_API_URL names another")
    return Server(url, None)


@contextmanager
def chosen() -> Iterator[Server]:
    """Give the server that is configured, or one that ends with the block; it may still be starting."""
    url = get_current_settings().api.url
    if url is not None:
        with _failures_told(url):
            yield Server(url, None)
        return
    port = _free_port()
    url = f"http://127.0.0.1:{port}/api"
    words = ["-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port), "--no-services"]
    with subprocess.Popen(  # noqa: S603  (our own interpreter)
        [sys.executable, *words],
        env=os.environ | _TEMPORARY,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C is for the run, which tells the server when it is done
        preexec_fn=end_with_parent,  # noqa: PLW1509  (no other thread runs yet)
    ) as process:
        try:
            with temporary_settings({PREFECT_API_URL: url, PREFECT_LOGGING_TO_API_ENABLED: False}), _failures_told(url):
                yield Server(url, process)
        finally:
            process.terminate()


@contextmanager
def _failures_told(url: str) -> Iterator[None]:
    # A server on SQLite refuses to begin a run while it is busy with others. Prefect tries again for a minute.
    try:
        yield
    except httpx.HTTPError as error:
        raise ServerError(
            f"the Prefect server at {url} failed: {first_line(error)}; what was done is kept: run again"
        ) from error


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port
