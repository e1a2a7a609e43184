"""Which server a run reports to, and what it says of one that it cannot use."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socket import socket
from threading import Event, Thread

import httpx
import pytest
from prefect.settings import PREFECT_API_URL, get_current_settings, temporary_settings

from flows import server
from tests.prefect_server import ROOT, wait_for


@contextmanager
def service(status: int, body: bytes, seconds: float = 0) -> Iterator[str]:
    """Another service than Prefect's, that answers all in the same way."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            time.sleep(seconds)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as serving:
        Thread(target=serving.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{serving.server_port}"
        finally:
            serving.shutdown()


def refusal(url: str) -> str:
    with (
        temporary_settings({PREFECT_API_URL: url}),
        pytest.raises(server.ServerError) as told,
        server.chosen() as chosen,
    ):
        chosen.check()
    assert "\n" not in str(told.value)
    return str(told.value)


def is_listening(url: str) -> bool:
    with socket() as asking:
        return asking.connect_ex(("127.0.0.1", httpx.URL(url).port or 0)) == 0


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        (200, b"<html>", "is not the API of a Prefect server, it answers as others do: "),
        (200, b'{"status": "ok"}', "is not the API of a Prefect server, it answers as others do: "),
        (200, b'"2.20.1"', "cannot be used (Found incompatible versions: client: 3."),
        (404, b"", "is not the API of a Prefect server, it answers 404: "),
        (502, b"", "is not the API of a Prefect server, it answers 502: "),
        (401, b"", "answers 401: set PREFECT_API_AUTH_STRING or PREFECT_API_KEY as it asks, "),
    ],
)
def test_another_service_is_not_taken_for_a_server(status: int, body: bytes, message: str) -> None:
    with service(status, body) as url:
        told = refusal(f"{url}/api")
    assert message in told
    assert told.endswith("or unset PREFECT_API_URL to use a temporary one")


def test_a_service_that_never_answers_is_waited_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_ANSWER", httpx.Timeout(0.2))
    with service(200, b"", seconds=2) as url:
        assert f"{url}/api does not answer (ReadTimeout" in refusal(f"{url}/api")


def test_an_address_is_set_right_or_told_how(prefect_server: None) -> None:
    right = str(get_current_settings().api.url)
    with temporary_settings({PREFECT_API_URL: f"{right}/"}), server.chosen() as chosen:
        chosen.check()
        assert get_current_settings().api.url == right
    assert f"name one, perhaps {right}, or unset" in refusal(right.removesuffix("/api"))
    assert "see whether it is http or https" in refusal(right.replace("http", "https"))


@pytest.mark.parametrize(
    "url", ["127.0.0.1:9/api", "localhost:9/api", "http:/localhost:9/api", "http://", "http://h:x"]
)
def test_what_is_no_address_is_told_its_form(url: str) -> None:
    assert "write it as http://HOST:4200/api, or unset PREFECT_API_URL" in refusal(url)


@pytest.mark.parametrize("rest", ["/api?x=1", "?x=1", "/api/#top", "/#/runs"])
def test_what_stands_behind_an_address_is_left_out(rest: str) -> None:
    with service(404, b"") as url:
        assert f"name one, perhaps {url}/api, or unset" in refusal(url + rest)


def test_a_password_in_the_address_is_not_shown() -> None:
    assert "http://127.0.0.1:9/api does not answer" in refusal("http://user:secret@127.0.0.1:9/api")


def test_a_temporary_server_that_does_not_start_gives_its_last_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "server.py"
    program.write_text("raise OSError(28, 'No space left on device')")
    monkeypatch.setattr(server, "_TEMPORARY", program)
    told = "did not start: OSError: .Errno 28. No space left on device; PREFECT_API_URL names another"
    with (
        temporary_settings({PREFECT_API_URL: ""}),
        pytest.raises(server.ServerError, match=told),
        server.chosen() as chosen,
    ):
        chosen.check()


def test_a_temporary_server_that_ends_takes_its_run_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program, folder = tmp_path / "server.py", tmp_path / "temporary"
    folder.mkdir()
    # It answers once.
    lines = [
        "import socket, sys",
        "asking = socket.socket(fileno=int(sys.argv[1])).accept()[0]",
        "asking.recv(10_000)",
        "asking.sendall(b'HTTP/1.0 200 OK\\r\\nContent-Length: 0\\r\\n\\r\\n')",
        "open(sys.argv[2] + '/prefect.db', 'w').close()",
        "raise OSError(28, 'No space left on device')",
    ]
    program.write_text("\n".join(lines))
    monkeypatch.setattr(server, "_TEMPORARY", program)
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    before = signal.getsignal(signal.SIGCHLD)
    told = r"ended \(OSError: .Errno 28. No space left on device\); what is finished is kept: run again"

    def run() -> None:
        with temporary_settings({PREFECT_API_URL: ""}), server.chosen() as chosen:
            chosen.check()
            # As the run's own work would.
            Event().wait(60)

    with pytest.raises(server.ServerError, match=told):
        run()
    assert not list(folder.iterdir())
    assert signal.getsignal(signal.SIGCHLD) == before


def test_a_temporary_server_has_a_database_of_its_own_and_ends_with_its_run(tmp_path: Path) -> None:
    places = {name: tmp_path / name for name in ("home", "temporary", "here")}
    for place in places.values():
        place.mkdir()
    # What others left where the run begins is nothing to its server.
    (places["here"] / "random.py").write_text("raise ImportError('not the module that you look for')")
    (places["here"] / "pyproject.toml").write_text("[tool.prefect.server.database]\nconnection_url = 'nowhere'\n")
    lines = [
        "from flows import server",
        "with server.chosen() as chosen:",
        "    chosen.check()",
        "    print(chosen.url)",
    ]
    lines += ["    import sys; sys.stdout.flush(); sys.stdin.read()"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    environment |= {"PREFECT_HOME": str(places["home"]), "TMPDIR": str(places["temporary"]), "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-P", "-c", "\n".join(lines)],
        cwd=places["here"],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as run:
        assert run.stdout is not None
        url = run.stdout.readline().strip()
        assert json.loads(httpx.get(f"{url}/admin/version", timeout=120, trust_env=False).text).startswith("3.")
        assert [path.name for path in places["temporary"].glob("*/prefect.db")] == ["prefect.db"]
        assert not list(places["home"].glob("*.db"))
        run.send_signal(signal.SIGKILL)
    wait_for("end of the server", lambda: not list(places["temporary"].iterdir()) and not is_listening(url))
