"""Every command in the READMEs is run as it stands there, but for where things are."""

import json
import os
import re
import shlex
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import scipy.sparse as sp
from prefect.settings import get_current_settings

from tasks.core.storage.store import Store
from tests.conftest import real_cells
from tests.hub_server import HubServer
from tests.prefect_server import running, wait_for
from tests.s3_server import free_ports
from tests.small_dataset import gene_table, random_cells, table_of, write_dataset

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / folder / "README.md" for folder in (".", "flows", "deployments", "tasks", "tests/bench")]
README = "\n".join(page.read_text() for page in PAGES)
BLOCKS = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
LINES = [re.sub(r"\s+#.*", "", line).strip() for block in BLOCKS for line in block.splitlines()]
# What leaves a model.
FIT = "python flows/run.py --samples all"
# `make test` runs this test; the others are a person's own shell and a server that stays.
NOT_RUN = {
    "make test",
    "make bench",
    "make bench-scale",
    "make faults",
    "source .venv/bin/activate",
    "prefect server start",
}
# These leave a server or something on one: tests/deployments/ runs them.
DEPLOYING = ("make serve", "make stop", "prefect ", "export ", "WEBHOOK=", "sed ")


def what_make_does(target: str) -> str:
    printed = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return next(line for line in printed.splitlines() if "flows/run.py" in line)


def dataset_for(line: str, folder: Path) -> Path:
    if "--recipe atlas" in line:
        return real_cells("mixology-thin")
    return write_dataset(folder / "dataset", [table_of(random_cells(150, 120))], gene_table(120))


@pytest.mark.parametrize("line", sorted(line for line in set(LINES) - NOT_RUN if not line.startswith(DEPLOYING)))
def test_command(line: str, tmp_path: Path, prefect_server: None) -> None:
    server = get_current_settings().api.url or ""
    dataset = dataset_for(line, tmp_path)
    command = what_make_does(line.removeprefix("make ")) if line.startswith("make ") else line
    places = {"folder": dataset, "results": tmp_path / "results", "labelled": tmp_path / "output"}
    for name, place in places.items():
        command = command.replace(f"path/to/{name}", shlex.quote(str(place)))
    if "path/to/results" in line:
        command = f"{FIT} --dataset {shlex.quote(str(dataset))} --output {places['results']} && {command}"
    command = command.replace("http://127.0.0.1:4200/api", server)
    command = re.sub(r"(^|\s)(\.venv/bin/)?python\b", rf"\1{shlex.quote(sys.executable)}", command)
    # Where things are, by settings that the README does not name.
    settings = {"TAHOE_STORE": str(tmp_path / "store"), "TAHOE_OUTPUT": str(tmp_path / "output")}
    # A run has made it before anyone looks after it.
    Store(settings["TAHOE_STORE"]).claim()
    with HubServer(dataset, "tahoebio/Tahoe-100M") as hub:
        reach = hub.environment(tmp_path / "hub") | settings | {"PREFECT_API_URL": server}
        ran = subprocess.run(
            ["bash", "-ec", command], cwd=ROOT, env=os.environ | reach, capture_output=True, text=True, check=False
        )
    assert ran.returncode == 0, ran.stderr
    assert (tmp_path / "output" / "embeddings.csv").exists() or " store " in line or "--plan" in line


def is_open(port: int) -> bool:
    with socket.socket() as asking:
        return asking.connect_ex(("127.0.0.1", port)) == 0


def test_a_cluster_as_it_stands_there(tmp_path: Path, prefect_server: None) -> None:
    (block,) = re.findall(r"```\n(dask scheduler.*?)```", README, re.DOTALL)
    (port,) = free_ports(1)
    for there, here in {
        "its-name:8786": f"127.0.0.1:{port}",
        "s3://bucket": str(tmp_path),
        "--nworkers 16": "--nworkers 2",
    }.items():
        block = block.replace(there, here)
    lines = re.sub(r"\s+#.*", "", block).replace("\\\n", "").splitlines()
    scheduler, *settings, worker, (_, *flow) = (shlex.split(line) for line in lines)
    configured = dict(words[1].split("=") for words in settings)
    dataset = dataset_for("", tmp_path)
    with HubServer(dataset, "tahoebio/Tahoe-100M") as hub:
        environment = os.environ | hub.environment(tmp_path / "hub") | configured
        environment["PREFECT_API_URL"] = get_current_settings().api.url or ""
        local = ["--host", "127.0.0.1", "--port", str(port), "--no-dashboard"]
        with running(["-m", *scheduler, *local], environment, tmp_path / "scheduler.log"):
            wait_for("scheduler", lambda: is_open(port))
            with running(["-m", *worker], environment, tmp_path / "worker.log"):
                subprocess.run([sys.executable, *flow], cwd=ROOT, env=environment, check=True)
    assert (tmp_path / "results" / "embeddings.csv").exists()


def test_python() -> None:
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    seen: dict[str, Any] = {"normalized": sp.random_array((300, 200), density=0.1, rng=0, format="csr")}
    exec(block, seen)  # noqa: S102  (the README is ours)
    assert seen["embedding"].shape == (300, 50)
    assert sorted(set(seen["labels"])) == list(range(10))


def test_a_flow_of_ones_own(tmp_path: Path, prefect_server: None) -> None:
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "flows" / "README.md").read_text(), re.DOTALL)
    (tmp_path / "own.py").write_text(block)
    environment = os.environ | {"PREFECT_API_URL": str(get_current_settings().api.url)}

    def run(*words: str) -> str:
        ran = subprocess.run(
            [sys.executable, *words], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
        )
        return ran.stdout

    nonzeros = int(run("own.py"))
    (reading,) = re.findall(r"```python\n(.*?)```", (ROOT / "tasks" / "README.md").read_text(), re.DOTALL)
    (tmp_path / "reading.py").write_text(f"{reading}\nprint(pl.concat(by_drug)['genes'].sum())\n")
    assert int(run("reading.py").splitlines()[-1]) == nonzeros
    (command,) = re.findall(r"`python flows/run\.py (.*my-store)`", README)
    told = run(str(ROOT / "flows" / "run.py"), *command.split())
    assert told.startswith(f"25,000 cells, {nonzeros:,} counts")
    stages = json.loads((tmp_path / "run.json").read_text())["stages"]
    assert {cost["stage"]: cost["made"] for cost in stages if cost["stage"] in {"streaming", "matrix"}} == {
        "streaming": 0,
        "matrix": 0,
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.parent.name)
def test_what_a_page_links_to_is_there(page: Path) -> None:
    for link in re.findall(r"\]\((?!http)([^)#]*)(#[^)]*)?\)", page.read_text()):
        to = page.parent / link[0] if link[0] else page
        assert to.exists(), link
        headings = re.findall(r"^#+ (.*)", to.read_text(), re.MULTILINE) if link[1] else []
        assert not link[1] or link[1][1:] in {one.lower().replace(" ", "-") for one in headings}, link


def test_the_flags_in_the_table_are_those_of_the_command() -> None:
    from tasks.core.base.settings import Settings  # noqa: PLC0415

    rows = re.findall(r"^\| `--(\w+)` \| `?([^|`]*)`? \|", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert len(rows) == 9
    for name, default in rows:
        assert default.strip() in (str(Settings.model_fields[name].default), "none")
