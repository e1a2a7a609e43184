"""S3 credentials from a Prefect block: a run needs no others, and they are shown nowhere."""

import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from prefect.blocks.core import Block
from prefect.blocks.system import Secret
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import LogFilter, LogFilterLevel
from pydantic import SecretStr

from flows.command_line import main
from flows.credentials import hold
from tasks.core.storage.files import Files
from tests.s3_server import BUCKET, KEY, SECRET, S3Server

KEYS = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET}


class LabCredentials(Block):
    """Made as prefect-aws's AwsCredentials is."""

    aws_access_key_id: str
    aws_secret_access_key: SecretStr
    aws_session_token: str | None = None
    region_name: str | None = None


@pytest.fixture
def place(s3_server: S3Server, prefect_server: None, monkeypatch: pytest.MonkeyPatch) -> str:
    """A prefix on S3 for which the environment has no keys."""
    for name in KEYS:
        monkeypatch.delenv(name)
    return f"s3://{BUCKET}/{uuid4().hex}"


def save(value: Any, name: str = "lab") -> str:
    Secret(value=value).save(name, overwrite=True)
    return f"secret/{name}"


def save_fields() -> str:
    block = LabCredentials(aws_access_key_id=KEY, aws_secret_access_key=SecretStr(SECRET), region_name="us-east-1")
    block.save("lab", overwrite=True)
    return "labcredentials/lab"


def words(dataset: Path, place: str, block: str) -> list[str]:
    sizes = ["--samples", "60", "--pca_dim", "5", "--clusters", "2"]
    places = ["--dataset", str(dataset), "--store", f"{place}/store", "--output", f"{place}/output"]
    return [*sizes, *places, "--credentials", block]


def told() -> Iterator[str]:
    """All that Prefect's server knows of runs, and would show."""
    with get_client(sync_client=True) as client:
        every_log = LogFilter(level=LogFilterLevel(ge_=0))
        yield from (log.message for log in client.read_logs(every_log, limit=200))
        yield from (str(artifact.data) for artifact in client.read_artifacts(limit=200))
        yield from (run.model_dump_json() for run in client.read_flow_runs())


@pytest.mark.parametrize("kind", ["object", "text", "fields"])
def test_a_run_with_keys_from_a_block_needs_no_others_and_shows_none(
    place: str, dataset: Path, kind: str, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    block = save_fields() if kind == "fields" else save(KEYS if kind == "object" else json.dumps(KEYS))
    assert main(words(dataset, place, block)) == 0
    assert not os.environ.keys() & KEYS.keys()
    assert main(["store", "verify", "--store", f"{place}/store", "--credentials", block]) == 0
    said = capsys.readouterr()
    files = Files(place, 5, block)
    left = {entry.path: files.read(entry.path) or b"" for entry in files.walk()}
    assert f'"credentials": "{block}"'.encode() in left["output/run.json"]
    assert any(block in line for line in told())
    for text in (caplog.text, said.out, said.err, *told(), *(str(data) for data in left.values())):
        assert SECRET not in text


def test_keys_that_were_renewed_in_the_block_are_found(place: str) -> None:
    block = save(KEYS | {"AWS_SECRET_ACCESS_KEY": "run-out"})
    hold(block)
    save(KEYS)
    files = Files(place, 5, block)
    files.write("file", b"abc")
    assert files.read("file") == b"abc"


@pytest.mark.parametrize(
    ("block", "value", "message"),
    [
        ("secret/nothing", None, "--credentials secret/nothing: Prefect has no such block"),
        ("nothing/lab", None, "--credentials nothing/lab: Prefect has no such block"),
        ("lab", None, "--credentials (not shown): string should match pattern"),
        ("secret/lab", "hunter2", "its value must be a JSON object of texts: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS"),
        ("secret/lab", {"AWS_ACCESS_KEY_ID": "hunter2"}, "its value must be a JSON object"),
        ("secret/lab", KEYS | {"LD_PRELOAD": "hunter2"}, "and of others only AWS_SESSION_TOKEN, AWS_REGION"),
        ("secret/lab", KEYS | {"AWS_REGION": 2}, "its value must be a JSON object"),
    ],
)
def test_a_block_that_does_not_do_is_told_in_one_line(
    place: str, dataset: Path, capsys: pytest.CaptureFixture[str], block: str, value: Any, message: str
) -> None:
    if value is not None:
        save(value)
    assert main(words(dataset, place, block)) == 2
    said = capsys.readouterr().err
    (line,) = (line for line in said.splitlines() if line.startswith("error: "))
    assert message in line
    assert "hunter2" not in said
    assert "Traceback" not in said
