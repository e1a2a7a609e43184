"""Which Prefect server a run reports to: the one that is configured, or a temporary one of its own.

Prefect would start a temporary server by itself, but only once the flow begins, after importing the whole server into
the run's process, and on the database of whoever runs it. Started here instead it comes up while the run's own modules
are imported: half the wait, and less memory.
"""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import IO, Any

import httpx
from prefect.client.base import ServerType
from prefect.client.orchestration import get_client
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_CLIENT_MAX_RETRIES,
    PREFECT_LOGGING_TO_API_ENABLED,
    PREFECT_UI_URL,
    get_current_settings,
    temporary_settings,
)
from pydantic import ValidationError

from flows.child import undisturbed
from flows.network import fit_network
from tasks.core.base.errors import SettingsError, TahoeFlowError, first_line

# Prefect's client tries four times to connect.
_ANSWER = httpx.Timeout(5.0, connect=2.0)
_START_SECONDS = 120.0
# A temporary server is busy with nobody else's runs, and one that is gone does not come back.
_OWN_RETRIES = 2
_TEMPORARY = Path(__file__).with_name("temporary_server.py")


class ServerError(TahoeFlowError, ConnectionError):
    """No Prefect server answers."""


class Server:
    """The server of a run.

    Attributes:
        url: of its API.
        errors: what a temporary server says of its own, None for one that was configured.
        is_up: whether a temporary server has answered.
    """

    def __init__(self, url: str, errors: IO[bytes] | None) -> None:
        self.url = url
        self.errors = errors
        self.is_up = False

    @property
    def shown(self) -> str:
        """Its address without a password."""
        scheme, separator, rest = self.url.rpartition("://")
        return scheme + separator + rest.rpartition("@")[2]

    def __str__(self) -> str:
        if self.errors is None:
            return f"Reporting to the Prefect server at {self.shown}."
        return (
            "No Prefect server is configured: starting a temporary one takes some seconds. "
            "It leaves with its task history; what happened is in run.json."
        )

    def check(self) -> None:
        """Wait until the server answers.

        Raises:
            ServerError: it does not, or not as one of Prefect's.
        """
        if self.errors is None:
            self._check_configured()
        else:
            self._await_start(self.errors)

    def _check_configured(self) -> None:
        try:
            with (
                temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}),
                get_client({"timeout": _ANSWER}, sync_client=True) as client,
            ):
                if client.server_type == ServerType.CLOUD:
                    client.hello()
                else:
                    client.raise_for_api_version_mismatch()
        except Exception as error:  # a server's client fails in many ways
            why = error.__cause__ if isinstance(error, RuntimeError) and error.__cause__ else error
            raise ServerError(_explain(self.shown, why)) from error

    def _await_start(self, errors: IO[bytes]) -> None:
        # Its socket listens: the answer comes once it is up, or the connection ends as it does.
        try:
            httpx.get(f"{self.url}/health", timeout=_START_SECONDS, trust_env=False).raise_for_status()
        except httpx.HTTPError as error:
            why = _last_words(errors) or first_line(error)
            raise ServerError(
                f"a temporary Prefect server did not start: {why}; PREFECT_API_URL names another"
            ) from error
        self.is_up = True


def _explain(url: str, why: BaseException) -> str:
    status = why.response.status_code if isinstance(why, httpx.HTTPStatusError) else None
    said = f"{type(why).__name__}: {first_line(why)}"
    if isinstance(why, httpx.InvalidURL) or not re.match("https?://[^/?#]", url, re.IGNORECASE):
        told = f"{url} is no address of a Prefect server's API: write it as http://HOST:4200/api"
    elif status in {httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN}:
        told = (
            f"the Prefect server at {url} answers {status}: set PREFECT_API_AUTH_STRING or PREFECT_API_KEY as it asks"
        )
    elif status or isinstance(why, ValueError | TypeError):
        bare = url.partition("?")[0].partition("#")[0].rstrip("/")
        right = bare if bare.endswith("/api") else f"{bare}/api"
        such = "" if right == url else f", perhaps {right}"
        told = f"{url} is not the API of a Prefect server, it answers {status or 'as others do'}: name one{such}"
    elif isinstance(why, RuntimeError):
        told = f"the Prefect server at {url} cannot be used ({first_line(why)}): name another"
    elif "SSL" in said:
        told = f"the Prefect server at {url} does not answer ({said}): see whether it is http or https"
    else:
        told = f"the Prefect server at {url} does not answer ({said}): start it with 'prefect server start'"
    return f"{told}, or unset PREFECT_API_URL to use a temporary one"


def _configured_url() -> str | None:
    fit_network()
    # Prefect reads its settings when first asked for some, warns of a home that cannot be written, which no run needs,
    # and refuses them in many ways.
    try:
        with redirect_stderr(StringIO()):
            return get_current_settings().api.url
    except Exception as error:
        raise SettingsError(
            f"Prefect's settings cannot be used ({_reason(error)}): they are PREFECT_... in the environment, the "
            "profiles in PREFECT_HOME, and .env, prefect.toml and pyproject.toml in this folder"
        ) from error


def _reason(error: Exception) -> str:
    if not isinstance(error, ValidationError):
        return first_line(error)
    # Without the value, which may be a secret.
    problem = error.errors(include_url=False, include_input=False)[0]
    return " ".join([*map(str, problem["loc"]), problem["msg"]])


def configured() -> Server:
    """Give the server that is configured.

    Raises:
        ServerError: none is.
        SettingsError: Prefect's settings, proxies or certificates are not in order.
    """
    url = _configured_url()
    if not url:
        raise ServerError("no Prefect server is configured: 'make serve' starts one; PREFECT_API_URL names another")
    return Server(url, None)


@contextmanager
def chosen() -> Iterator[Server]:
    """Give the server that is configured, or one that ends with the block; it may still be starting.

    Raises:
        SettingsError: Prefect's settings, proxies or certificates are not in order.
    """
    url = _configured_url()
    if not url:
        with _temporary() as server, _used(server):
            yield server
    else:
        # As some write it, and Prefect's events would not find it.
        with _used(Server(url.rstrip("/"), None)) as server:
            yield server


@contextmanager
def _temporary() -> Iterator[Server]:
    with ExitStack() as until_end:
        try:
            errors = until_end.enter_context(TemporaryFile())
            # The socket is bound here, so that nobody else can answer in the server's place.
            with socket.create_server(("127.0.0.1", 0)) as listening:
                url = f"http://127.0.0.1:{listening.getsockname()[1]}/api"
                home = until_end.enter_context(TemporaryDirectory(prefix="tahoe-flow-server-"))
                process = until_end.enter_context(_start(listening.fileno(), home, errors))
        except OSError as error:
            raise ServerError(f"a temporary Prefect server did not start: {first_line(error)}") from error
        server = Server(url, errors)
        try:
            with _watched(server, process):
                yield server
        except BaseException as error:  # what a server that is gone leads to may be of any kind
            if not server.is_up or process.poll() is None:
                raise
            why = _last_words(errors) or f"exit code {process.returncode}: killed, or out of memory"
            raise ServerError(
                f"the temporary Prefect server of this run ended ({why}); what is finished is kept: run again"
            ) from error


@contextmanager
def _watched(server: Server, process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Interrupt the block once the server of a run is gone, which it would wait for."""

    def interrupt_if_gone(*_: Any) -> None:
        if server.is_up and process.poll() is not None:
            signal.signal(signal.SIGCHLD, before)
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGCHLD, interrupt_if_gone)
    try:
        yield
    finally:
        signal.signal(signal.SIGCHLD, before)


def _last_words(errors: IO[bytes]) -> str:
    errors.seek(0)
    said = errors.read().decode(errors="replace").strip().splitlines()
    return said[-1].strip() if said else ""


def _start(listening: int, home: str, errors: IO[bytes]) -> subprocess.Popen[bytes]:
    with undisturbed():
        return subprocess.Popen(  # noqa: S603  (our own interpreter)
            # A module of a standard name, where the run was started, is not for the server.
            [sys.executable, "-P", "-W", "ignore", str(_TEMPORARY), str(listening), home],
            env={name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")},
            stdin=subprocess.PIPE,  # the server ends as it does
            stdout=subprocess.DEVNULL,
            stderr=errors,
            pass_fds=[listening],
        )


@contextmanager
def _used(server: Server) -> Iterator[Server]:
    # A server on SQLite refuses to begin a run while it is busy with others. Prefect tries again for a minute.
    # One of the run's own has no UI, nor keeps what is logged.
    own = {PREFECT_UI_URL: "", PREFECT_LOGGING_TO_API_ENABLED: False, PREFECT_CLIENT_MAX_RETRIES: _OWN_RETRIES}
    try:
        with temporary_settings({PREFECT_API_URL: server.url, **({} if server.errors is None else own)}):
            yield server
    except httpx.HTTPError as error:
        raise ServerError(
            f"the Prefect server at {server.shown} failed: {first_line(error)}; what was done is kept: run again"
        ) from error
