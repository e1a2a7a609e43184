"""`make serve` and `make stop`, as the Makefile calls them."""

import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from deployments.noted import Noted, note, noted
from tests.prefect_server import ROOT, environment_without_prefect, running, wait_for
from tests.s3_server import free_ports


def local(home: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "deployments.local", *words]
    where = environment_without_prefect() | {"PREFECT_HOME": str(home)} | environment
    return subprocess.run(command, cwd=ROOT, env=where, capture_output=True, text=True, check=False, timeout=60)


def test_one_command_brings_all_up_and_one_ends_it(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    words = ["-m", "deployments.local", "start", "--port", str(port)]
    environment = environment_without_prefect() | {"PREFECT_HOME": str(tmp_path / "home")}
    with (
        running(words, environment, tmp_path / "log") as started,
        httpx.Client(base_url=f"http://127.0.0.1:{port}") as client,
    ):
        last = "/api/deployments/name/cluster-cells/full-weekly"
        wait_for("deployments", lambda: client.get(last).is_success or started.poll() is not None)
        assert f"The UI is at http://127.0.0.1:{port}." in (tmp_path / "log").read_text()
        assert client.get("/ui-settings").json()["api_url"] == f"http://127.0.0.1:{port}/api"
        assert "<html" in client.get("/", follow_redirects=True).text
        again = local(tmp_path / "home", "start", "--port", str(port))
        assert (again.returncode, "it runs already" in again.stderr) == (1, True)
        processes = noted(tmp_path / "home" / "served.json")
        assert [process.is_alive() for process in processes] == [True] * 3

        assert local(tmp_path / "home", "stop").stderr == "stopped\n"
        assert started.wait(5) == 0
    assert [process.is_alive() for process in processes] == [False] * 3
    assert local(tmp_path / "home", "stop").stderr == "nothing to stop\n"
    assert "Traceback" not in (tmp_path / "log").read_text()


def test_a_taken_port_is_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        refused = local(tmp_path, "start", "--port", str(taken.getsockname()[1]))
    assert refused.returncode == 2
    assert re.fullmatch(r"error: cannot listen on .* 'make serve PORT=4201' chooses another port\n", refused.stderr)


def test_it_opens_to_a_network_only_with_a_password(tmp_path: Path) -> None:
    refused = local(tmp_path, "start", "--host", "192.0.2.7")
    assert refused.returncode == 2
    assert "set PREFECT_SERVER_API_AUTH_STRING=user:password first" in refused.stderr


def test_another_process_with_the_same_number_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "served.json"
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as process:
        note(file, [process.pid])
        (found,) = noted(file)
        Noted(found.pid, "long ago").end(seconds=1)
        assert process.poll() is None
        found.end(seconds=10)
        assert process.wait() == -signal.SIGTERM
        assert noted(file) == []


@pytest.mark.parametrize("text", ["", "[", '[{"pid": 1}]', "{}"])
def test_a_broken_note_stops_nothing(text: str, tmp_path: Path) -> None:
    (tmp_path / "served.json").write_text(text)
    assert noted(tmp_path / "served.json") == []
