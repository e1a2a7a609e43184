"""`make serve` and `make stop`, as the Makefile calls them."""

import re
import signal
import socket
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from deployments.noted import Noted, note, noted
from tests.prefect_server import ROOT, PrefectServer, copy_checkout, environment_without_prefect, running, wait_for
from tests.s3_server import free_ports


def local(home: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "deployments.local", *words]
    where = environment_without_prefect() | {"PREFECT_HOME": str(home)} | environment
    return subprocess.run(command, cwd=ROOT, env=where, capture_output=True, text=True, check=False, timeout=60)


def test_one_command_brings_all_up_and_one_ends_it(tmp_path: Path, places: dict[str, str]) -> None:
    home = tmp_path / "home"
    server = PrefectServer(home)
    words = ["-m", "deployments.local", "start", "--port", str(server.port)]
    with (
        server.client,
        running(words, environment_without_prefect() | {"PREFECT_HOME": str(home)}, tmp_path / "log") as started,
    ):
        # It waits for three commands of Prefect's, one after the other.
        wait_for("set-up", lambda: "The UI is at" in (tmp_path / "log").read_text(), seconds=240)
        assert f"The UI is at http://127.0.0.1:{server.port}." in (tmp_path / "log").read_text()
        assert server.deployment("on-demand")["parameters"]["store"] == ".store"
        assert server.ask("GET", "../ui-settings")["api_url"] == f"http://127.0.0.1:{server.port}/api"
        assert "<html" in server.client.get("..", follow_redirects=True).text
        again = local(home, "start", "--port", str(server.port))
        assert (again.returncode, "it runs already" in again.stderr) == (1, True)
        processes = noted(home / "served.json")
        run = server.click_run("on-demand", **places, samples=30_000, work={"partition_cells": 200})
        wait_for("run", lambda: server.ask("GET", f"flow_runs/{run}")["state"]["type"] == "RUNNING")

        assert local(home, "stop").stderr == "stopped\n"
        assert started.wait(5) == 0
    assert [process.is_alive() for process in processes] == [False] * 3
    assert local(home, "stop").stderr == "nothing to stop\n"
    assert "Traceback" not in (tmp_path / "log").read_text()
    with closing(sqlite3.connect(home / "prefect.db")) as database:
        # What ran is cancelled, gives its place back, and no schedule goes on.
        assert database.execute("SELECT state_name FROM flow_run WHERE auto_scheduled = 0").fetchall() == [
            ("Cancelled",)
        ]
        assert database.execute("SELECT sum(active_slots) FROM concurrency_limit_v2").fetchone() == (0,)
        assert database.execute("SELECT min(paused) FROM deployment").fetchone() == (1,)


def test_a_bad_deployment_starts_nothing_and_says_why_in_one_line(tmp_path: Path) -> None:
    deployments = (ROOT / "prefect.yaml").read_text().replace("samples: 20000", "samples: 0")
    checkout = copy_checkout(tmp_path / "checkout", deployments)
    command = [sys.executable, "-m", "deployments.local", "start", "--port", str(free_ports(1)[0])]
    where = environment_without_prefect()
    ran = subprocess.run(command, cwd=checkout, env=where, capture_output=True, text=True, check=False, timeout=300)
    log = checkout / ".prefect" / "deploy.log"
    why = "Validation failed for field 'samples'. Failure reason: 0 is less than or equal to the minimum of 0"
    assert ran.stderr.splitlines()[1:] == [f"error: 'prefect deploy --all' failed: {why}; {log} says all"]
    assert ran.returncode == 1
    assert noted(checkout / ".prefect" / "served.json") == []


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
