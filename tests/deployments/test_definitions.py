import subprocess
import sys
from pathlib import Path

import pytest

from deployments.definitions import FILE, read
from flows.command_line import FitCommand, read_settings
from tasks.core.base.errors import SettingsError
from tasks.core.base.settings import Settings
from tests.prefect_server import ROOT

FILES = [FILE, FILE.with_name("prefect-s3.yaml")]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_definitions_are_whole(file: Path) -> None:
    definitions = read(file)
    places = [(one.parameters["store"], one.parameters["output"]) for one in definitions]
    # One run at a time a deployment is one a store only while no two of them share one.
    assert len({store for store, _ in places}) == len({output for _, output in places}) == len(definitions)
    assert all(one.concurrency_limit.limit == 1 and one.description and one.tags for one in definitions)
    assert {line.slug for one in definitions for line in one.schedules} == {"nightly", "weekly"}


@pytest.mark.parametrize(
    ("good", "bad", "message"),
    [
        ("samples: 20000", "samples: 0", "(sample-nightly): --samples 0: input should be greater than 0"),
        ("samples: 20000", "smaples: 1", "(sample-nightly): there is no setting 'smaples'"),
        ("timezone: Europe/Zurich", "timezone: Europe/Zurch", "there is no time zone 'Europe/Zurch'"),
        ("collision_strategy: ENQUEUE", "collision_strategy: WAIT", "should be 'ENQUEUE' or 'CANCEL_NEW'"),
        ("tags: [cells, nightly]", "tag: [cells, nightly]", "deployment 2: tags: Field required"),
        ("deployments:", "deployment:", "no deployments can be read"),
        ("deployments:", "deployments: [", "no deployments can be read"),
    ],
)
def test_a_bad_definition_is_refused_in_one_line(good: str, bad: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "prefect.yaml"
    text = FILE.read_text()
    assert good in text
    file.write_text(text.replace(good, bad))
    with pytest.raises(SettingsError) as refused:
        read(file)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_serve_refuses_before_it_starts(tmp_path: Path) -> None:
    file = tmp_path / "prefect.yaml"
    file.write_text(FILE.read_text().replace("samples: all", "samples: some"))
    command = [sys.executable, "deployments/serve.py", str(file)]
    refused = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert "(full-weekly): --samples some" in refused.stderr


@pytest.mark.parametrize("name", ["settings-local.toml", "settings-s3.toml"])
def test_example_settings_load(name: str) -> None:
    settings = read_settings(["--settings_file", str(FILE.with_name(name))], FitCommand, Settings)
    assert settings.store.startswith("s3://") == settings.output.startswith("s3://") == ("s3" in name)
