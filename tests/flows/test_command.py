"""The command as a process of its own, as a person starts it."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import httpx
import pytest
from prefect.settings import get_current_settings

from flows import command_line, server
from flows.partitions import HUB
from tasks.core.base.settings import Settings
from tasks.core.dataset.synthetic import write_dataset
from tests.conftest import real_cells
from tests.hub_server import HubServer
from tests.small_dataset import write_random_dataset

ROOT = Path(__file__).resolve().parents[2]


def command(*words: object, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run flows/run.py from another folder, with no Prefect server but the one given."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "TAHOE_"))}
    clean |= {"PREFECT_HOME": str(folder / "prefect")}
    arguments = [sys.executable, str(ROOT / "flows" / "run.py"), *map(str, words)]
    return subprocess.run(
        arguments, cwd=folder, env=clean | environment, capture_output=True, text=True, timeout=300, check=False
    )


def answers(url: str, asked: dict[str, Any], are_enough: Callable[[Any], object]) -> Any:
    """Ask a server that writes things down some time after they happened."""
    until = time.monotonic() + 30
    while not are_enough(found := httpx.post(url, json=asked).json()) and time.monotonic() < until:
        time.sleep(0.2)
    return found


@pytest.fixture
def server_url(prefect_server: None) -> str:
    url = get_current_settings().api.url
    assert url is not None
    return url


def test_a_run_needs_no_server_and_little_of_its_surroundings(tmp_path: Path) -> None:
    dataset = write_random_dataset(tmp_path / "dataset")
    # What lies there is of other projects, and so is what is set.
    (tmp_path / "random.py").write_text("raise ImportError('not the module that you look for')")
    (tmp_path / ".env").write_text("PREFECT_SERVER_DATABASE_CONNECTION_URL=nowhere\n")
    (tmp_path / "matplotlibrc").write_text("backend: TkAgg\nno.such.key: 1\n")
    surroundings = {
        # Not even root can make a folder there.
        "HOME": "/proc/nobody",
        "TMPDIR": str(tmp_path / "nowhere"),
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "PYTHONWARNINGS": "error",
        "COLUMNS": "wide",
        "PYTHONIOENCODING": "ascii",
        "TERM": "unknown",
        "AWS_PROFILE": "nobody",
        "PREFECT_SERVER_API_AUTH_STRING": "somebody:else",
        "http_proxy": "http://127.0.0.1:9",
        "no_proxy": "lab.org",
    }
    words = ("--dataset", dataset, "--samples", 60, "--pca_dim", 5, "--clusters", 2, "--layout", "umap")
    ran = command(*words, "--output", "größe", folder=tmp_path, **surroundings)
    assert ran.returncode == 0, ran.stderr
    assert "starting a temporary one" in ran.stderr
    assert all(re.match(r"No Prefect server|[a-z ]+: ", line) for line in ran.stderr.splitlines()), ran.stderr
    assert r"gr\xf6\xdfe/embeddings.csv" in ran.stdout
    assert {"embeddings.csv", "pca_variance.csv", "run.json"} <= {path.name for path in (tmp_path / "größe").iterdir()}
    assert not list((tmp_path / "prefect").glob("*.db"))


def test_settings_that_prefect_refuses_give_one_line(tmp_path: Path) -> None:
    ran = command("--dataset", "synthetic", folder=tmp_path, PREFECT_LOGGING_LEVEL="loud")
    assert ran.returncode == 2
    assert ran.stderr.startswith("error: Prefect's settings cannot be used (level Input should be ")
    assert ran.stderr.count("\n") == 1


def test_a_server_that_is_configured_is_used(tmp_path: Path, server_url: str) -> None:
    dataset = write_random_dataset(tmp_path / "dataset")
    words = ("--dataset", dataset, "--samples", 60, "--pca_dim", 5, "--clusters", 2)
    ran = command(*words, folder=tmp_path, PREFECT_API_URL=server_url)
    assert ran.returncode == 0, ran.stderr
    assert f"Reporting to the Prefect server at {server_url}" in ran.stderr


def test_a_server_that_is_configured_and_dead_gives_one_line(tmp_path: Path) -> None:
    ran = command("--dataset", "synthetic", folder=tmp_path, PREFECT_API_URL="http://127.0.0.1:9/api")
    assert ran.returncode == 1
    assert ran.stderr.splitlines()[-1].startswith("error: the Prefect server at http://127.0.0.1:9/api does not answer")
    assert "Traceback" not in ran.stderr
    assert not (tmp_path / "embeddings.csv").exists()


def test_a_value_of_several_lines_is_taken_whole() -> None:
    where = "plate == 'plate1'\nand drug == 'a=b'"
    for words in ([f"--where={where}"], ["--where", where]):
        assert command_line.read_settings(words, command_line.FitCommand, Settings).where == where


@pytest.mark.parametrize(
    ("error", "short"), [(MemoryError(), "memory is"), (RuntimeError("can't start new thread"), "threads are")]
)
def test_want_of_memory_gives_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception, short: str
) -> None:
    def run(*_: object, **__: object) -> NoReturn:
        raise error

    monkeypatch.setattr(command_line, "_ready", run)
    assert command_line.main([]) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"error: {short} short; what is finished is kept")
    assert said.count("\n") == 1


def test_a_server_that_fails_later_is_told_in_one_line(server_url: str) -> None:
    message = f"the Prefect server at {server_url} failed: busy; what was done is kept: run again"
    with pytest.raises(server.ServerError, match=f"^{re.escape(message)}$"), server.chosen():
        raise httpx.ReadError("busy\nand more")


WITHOUT = """
import sys
for name in ("anndata", "h5py", "igraph", "scanpy", "skmisc", "umap", "zarr"):
    sys.modules[name] = None
from flows.command_line import main
sys.exit(main(sys.argv[1:]))
"""


def test_the_plain_method_needs_nothing_of_the_extra_and_what_does_says_so(tmp_path: Path, server_url: str) -> None:
    dataset = write_random_dataset(tmp_path / "dataset")
    environment = os.environ | {"PREFECT_API_URL": server_url, "PYTHONPATH": str(ROOT)}

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        asked = ["--dataset", str(dataset), "--pca_dim", "2", "--clusters", "2", "--samples", "60", *words]
        return subprocess.run(
            [sys.executable, "-c", WITHOUT, *asked],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    for words, missing in ((["--recipe", "atlas"], "umap, igraph"), (["--export", "h5ad"], "anndata")):
        refused = run(*words)
        assert refused.returncode == 2, refused.stderr
        assert f"not installed ({missing}): pip install '.[atlas]' has them" in refused.stderr.splitlines()[-1]
    assert not (tmp_path / ".store").exists()
    assert run().returncode == 0
    assert (tmp_path / "embeddings.csv").exists()


def test_help_describes_every_setting(tmp_path: Path) -> None:
    ran = command("--help", folder=tmp_path)
    assert ran.returncode == 0
    text = re.sub(r"\s+", " ", ran.stdout)
    for flag, default in {
        "dataset": "tahoebio/Tahoe-100M",
        "samples": "20000",
        "pca_dim": "50",
        "clusters": "10",
    }.items():
        assert f"--{flag}" in text
        assert f"(default: {default})" in text


def test_an_unknown_flag_is_refused(tmp_path: Path) -> None:
    ran = command("--smples", 5, folder=tmp_path)
    assert ran.returncode == 2
    assert "--smples" in ran.stderr


def test_the_default_dataset_is_streamed_from_the_hub(tmp_path: Path, server_url: str) -> None:
    dataset = write_dataset(tmp_path / "dataset", 1_000, seed=1)
    with HubServer(dataset, "tahoebio/Tahoe-100M") as hub:
        reach = hub.environment(tmp_path / "hub") | {"PREFECT_API_URL": server_url}
        ran = command("--samples", 500, folder=tmp_path, **reach)
    assert ran.returncode == 0, ran.stderr
    record = json.loads((tmp_path / "run.json").read_text())
    assert record["dataset"]["name"] == "tahoebio/Tahoe-100M"
    assert record["dataset"]["revision"] == hub.commit
    assert record["dataset"]["cells_read"] == 500
    # By the tag a server limits those of all runs; the results are an asset to it.
    of_run = {"flow_runs": {"id": {"any_": [record["origin"]["flow_run"]]}}}
    runs = answers(f"{server_url}/task_runs/filter", of_run, lambda found: len(found) > 5)
    assert {run["task_key"].rpartition("-")[0] for run in runs if HUB in run["tags"]} == {"stream_cells"}
    told = {"event": {"name": ["prefect.asset.materialization.succeeded"]}, "resource": {"id": [tmp_path.as_uri()]}}
    (asset,) = answers(f"{server_url}/events/filter", {"filter": told}, lambda found: found["events"])["events"]
    assert f"tahoebio/Tahoe-100M@{hub.commit}" in {of["prefect.resource.id"] for of in asset["related"]}
    local = command(
        *("--samples", 500, "--dataset", dataset, "--store", "other", "--output", "local"),
        folder=tmp_path,
        PREFECT_API_URL=server_url,
    )
    assert local.returncode == 0, local.stderr
    for name in ("embeddings.csv", "pca_variance.csv"):
        assert (tmp_path / name).read_bytes() == (tmp_path / "local" / name).read_bytes()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--dataset", "nobody/nothing"), "the Hub has no dataset 'nobody/nothing'"),
        (("--revision", "v9"), "'tahoebio/Tahoe-100M' has no revision 'v9' on the Hub"),
    ],
)
def test_what_the_hub_does_not_have_is_named(
    tmp_path: Path, server_url: str, flags: tuple[str, ...], message: str
) -> None:
    dataset = write_random_dataset(tmp_path / "dataset")
    with HubServer(dataset, "tahoebio/Tahoe-100M") as hub:
        reach = hub.environment(tmp_path / "hub") | {"PREFECT_API_URL": server_url}
        ran = command(*flags, folder=tmp_path, **reach)
    assert ran.returncode == 1
    assert message in ran.stderr.splitlines()[-1]


def test_a_hub_that_is_down_is_told_with_what_works_offline(tmp_path: Path, server_url: str) -> None:
    dataset = write_random_dataset(tmp_path / "dataset")
    with HubServer(dataset, "tahoebio/Tahoe-100M") as hub:
        reach = hub.environment(tmp_path / "hub") | {"PREFECT_API_URL": server_url}
    ran = command("--retries", 1, folder=tmp_path, **reach)
    assert ran.returncode == 1
    assert "Connection refused" in ran.stderr.splitlines()[-1]
    assert "--dataset synthetic, works without a network" in ran.stderr.splitlines()[-1]


def test_the_readme_s_example_on_real_cells(tmp_path: Path, server_url: str) -> None:
    words = ("--samples", 1021, "--pca_dim", 20, "--clusters", 5, "--output", "out")
    ran = command("--dataset", real_cells("mixology-thin"), *words, folder=tmp_path, PREFECT_API_URL=server_url)
    assert ran.returncode == 0, ran.stderr
    assert len((tmp_path / "out" / "embeddings.csv").read_text().splitlines()) == 1_022
