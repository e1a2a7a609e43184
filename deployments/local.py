"""The whole set-up on one machine: a Prefect server, the deployments and a worker, for `make serve` and `make stop`.

One process starts them by Prefect's own commands, watches them, and ends them. The server's data lie in `.prefect` in
the checkout, unless PREFECT_HOME says where: a user's own home may hold the database of another project, or of another
version of Prefect, and a clone that is removed should leave nothing behind.
"""

import argparse
import ipaddress
import os
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, NoReturn

import httpx

from deployments.noted import note, noted
from flows import console
from flows.child import end_with_parent
from flows.network import fit_network
from tasks.core.base.errors import SettingsError, TahoeFlowError

ROOT = Path(__file__).resolve().parents[1]
# As in prefect.yaml.
_POOL = ("cells", "--type", "process")
_START_SECONDS = 120.0
# A run in progress is cancelled, which leaves its store as a crash would: the next run goes on from there.
_REST_SECONDS, _WORKER_END_SECONDS = 45.0, 10.0
# A browser may hold connections open for as long as it likes.
_SERVER_END_SECONDS = 10.0
_COMMAND_END_SECONDS = 5.0
_ALL_END_SECONDS = 90.0
_REFUSED = re.compile('Validation failed for field[^"\n]*')
_EVERY_ADDRESS = {"0.0.0.0", "::"}  # noqa: S104  (what it stands for is looked for, not bound)
_DEFAULTS = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    # Kept in memory, as is the default, a run's place is lost when the server restarts, and the run is cancelled.
    "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
}


class SetupError(TahoeFlowError, RuntimeError):
    """The set-up did not start, or ended by itself."""


def main(arguments: list[str]) -> int:
    """Start or stop the set-up; give the exit code."""
    parser = argparse.ArgumentParser(prog="python -m deployments.local", description=__doc__)
    parser.add_argument("command", choices=["start", "stop"])
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine only)")
    parser.add_argument("--port", type=int, default=4200, help="of the UI and the API (default: 4200)")
    given = parser.parse_args(arguments)
    home = Path(os.environ.get("PREFECT_HOME", ROOT / ".prefect")).absolute()
    try:
        if given.command == "stop":
            _stop(home / "served.json")
        else:
            _start(home, given.host, given.port)
    except KeyboardInterrupt:
        console.tell("stopped")
    except TahoeFlowError as error:
        console.complain(str(error))
        return 2 if isinstance(error, SettingsError) else 1
    return 0


def _stop(file: Path) -> None:
    running = noted(file)
    # The first ends the others: they are still there only if it was killed.
    for process in running:
        process.end(_ALL_END_SECONDS)
    file.unlink(missing_ok=True)
    console.tell("stopped" if running else "nothing to stop")


def _start(home: Path, host: str, port: int) -> NoReturn:
    fit_network()
    _check_place(home / "served.json", host, port)
    for stop in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(stop) != signal.SIG_IGN:  # as under nohup
            signal.signal(stop, _interrupt)
    address = _url("127.0.0.1" if host in _EVERY_ADDRESS else host, port)
    environment = _environment(home, host, port, f"{address}/api")
    with ExitStack() as children:
        file = home / "served.json"
        children.callback(file.unlink, missing_ok=True)
        log = home / "server.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        server = _spawn(["-m", "prefect", "server", "start"], environment, children, _SERVER_END_SECONDS, log)
        note(file, [os.getpid(), server.pid])
        _await(server, f"{address}/api/health", log)
        for words in (["work-pool", "create", *_POOL, "--overwrite"], ["deploy", "--all"]):
            _do(words, environment, children, home / "deploy.log")
        worker = _spawn(
            ["-m", "prefect", "worker", "start", "--pool", *_POOL], environment, children, _WORKER_END_SECONDS
        )
        children.callback(_rest, environment)
        note(file, [os.getpid(), worker.pid, server.pid])
        console.tell(f"The UI is at {address}. Ctrl-C here or 'make stop' anywhere ends it.")
        while worker.poll() is None and server.poll() is None:
            time.sleep(0.2)
        raise SetupError(f"the Prefect server ended: {log} says why" if worker.poll() is None else "the worker ended")


def _check_place(file: Path, host: str, port: int) -> None:
    if noted(file):
        raise SetupError("it runs already: 'make stop' ends it")
    if not _is_loopback(host) and not os.environ.get("PREFECT_SERVER_API_AUTH_STRING"):
        raise SettingsError(
            f"HOST={host} opens the server to the network, and whoever reaches it can start runs: "
            "set PREFECT_SERVER_API_AUTH_STRING=user:password first"
        )
    try:
        socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET).close()
    except (OSError, OverflowError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise SettingsError(
            f"cannot listen on {host}, port {port} ({why}): 'make serve PORT=4201' chooses another port"
        ) from error


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _environment(home: Path, host: str, port: int, api: str) -> dict[str, str]:
    """Give server and runs their environment: with `--port` alone the UI would have a wrong address."""
    seen = _url(socket.gethostname(), port) + "/api" if host in _EVERY_ADDRESS else api
    given = {
        "PREFECT_HOME": str(home),
        "PREFECT_API_URL": api,
        "PREFECT_SERVER_API_HOST": host,
        "PREFECT_SERVER_API_PORT": str(port),
    }
    environment = _DEFAULTS | {"PREFECT_UI_API_URL": seen} | os.environ | given
    if password := environment.get("PREFECT_SERVER_API_AUTH_STRING"):
        environment.setdefault("PREFECT_API_AUTH_STRING", password)
    return environment


def _spawn(
    words: list[str], environment: dict[str, str], children: ExitStack, end_seconds: float, log: Path | None = None
) -> subprocess.Popen[bytes]:
    """Start a process that ends with the stack; its output goes to a log if one is given, else where ours goes."""
    output = children.enter_context(log.open("ab")) if log else None
    process = subprocess.Popen(  # noqa: S603  (our own interpreter)
        [sys.executable, *words],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        start_new_session=True,  # Ctrl-C is for this process, which ends the others in their order
        preexec_fn=end_with_parent,  # noqa: PLW1509  (no other thread runs)
    )
    children.callback(_end, process, end_seconds)
    return process


def _end(process: subprocess.Popen[bytes], seconds: float) -> None:
    process.terminate()
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _do(words: list[str], environment: dict[str, str], children: ExitStack, log: Path) -> None:
    """Run one of Prefect's commands to its end."""
    log.unlink(missing_ok=True)
    if _spawn(["-m", "prefect", "--no-prompt", *words], environment, children, _COMMAND_END_SECONDS, log).wait():
        # The whole of a refused request fills pages.
        why = _REFUSED.search(log.read_text())
        raise SetupError(f"'prefect {' '.join(words)}' failed: {f'{why[0]}; ' if why else ''}{log} says all")


def _rest(environment: dict[str, str]) -> None:
    """Cancel what the worker runs, and pause the schedules: while nothing is up, runs must not pile up."""
    user, _, password = environment.get("PREFECT_API_AUTH_STRING", "").partition(":")
    ours = {"work_pools": {"name": {"any_": [_POOL[0]]}}}
    under_way = ours | {"flow_runs": {"state": {"type": {"any_": ["PENDING", "RUNNING", "CANCELLING"]}}}}
    until = time.monotonic() + _REST_SECONDS
    with (
        suppress(httpx.HTTPError),
        httpx.Client(base_url=environment["PREFECT_API_URL"], auth=(user, password), trust_env=False) as server,
    ):
        for deployment in server.post("deployments/filter", json=ours).raise_for_status().json():
            server.post(f"deployments/{deployment['id']}/pause_deployment")
        while (
            runs := server.post("flow_runs/filter", json=under_way).raise_for_status().json()
        ) and time.monotonic() < until:
            for run in runs:
                if run["state"]["type"] != "CANCELLING":
                    server.post(f"flow_runs/{run['id']}/set_state", json={"state": {"type": "CANCELLING"}})
            time.sleep(0.2)


def _await(server: subprocess.Popen[bytes], health: str, log: Path) -> None:
    console.tell("Starting a Prefect server ...")
    until = time.monotonic() + _START_SECONDS
    while server.poll() is None and time.monotonic() < until:
        try:
            if httpx.get(health, timeout=5, trust_env=False).is_success:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise SetupError(f"the Prefect server did not start: {log} says why")


def _interrupt(*_: Any) -> NoReturn:
    # Once is enough: what follows ends the children, and must not be interrupted.
    for stop in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(stop, signal.SIG_IGN)
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
