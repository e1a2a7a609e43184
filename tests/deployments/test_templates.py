"""What cannot be run here is linted."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate

from tests.prefect_server import ROOT

DOCKERFILE = ROOT / "deployments" / "Dockerfile"
POOL = json.loads((ROOT / "deployments" / "kubernetes.json").read_text())


def test_the_dockerfile_is_clean() -> None:
    hadolint = str(Path(sys.executable).with_name("hadolint"))
    linted = subprocess.run([hadolint, str(DOCKERFILE)], capture_output=True, text=True, check=False)
    assert linted.stdout == ""
    assert linted.returncode == 0


def test_what_the_dockerfile_copies_is_there_and_not_ignored() -> None:
    lines = re.findall(r"^COPY (.+) \S+$", DOCKERFILE.read_text(), re.MULTILINE)
    sources = [source for line in lines for source in line.split()]
    kept = re.findall(r"^!(.+)$", DOCKERFILE.with_name("Dockerfile.dockerignore").read_text(), re.MULTILINE)
    assert {"flows", "tasks", "deployments", "constraints.txt"} <= set(sources)
    for source in sources:
        assert (ROOT / source).exists()
        assert source.split("/")[0] in kept


def filled(template: Any) -> Any:
    """The template with its variables' defaults, and something for those without."""
    examples: dict[str, Any] = {"name": "run", "command": ["prefect"], "labels": {}, "env": []}
    values = examples | {
        key: value["default"] for key, value in POOL["variables"]["properties"].items() if "default" in value
    }
    if isinstance(template, dict):
        return {key: filled(value) for key, value in template.items()}
    if isinstance(template, list):
        return [filled(value) for value in template]
    if isinstance(template, str) and (whole := re.fullmatch(r"\{\{ (\w+) \}\}", template)):
        return values[whole[1]]
    if isinstance(template, str):
        return re.sub(r"\{\{ (\w+) \}\}", lambda name: str(values[name[1]]), template)
    return template


def test_the_job_is_one_that_kubernetes_takes() -> None:
    job = filled(POOL["job_configuration"]["job_manifest"])
    kubernetes_validate.validate(job, "1.33", strict=True)
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert container["workingDir"] in DOCKERFILE.read_text()
    assert job["spec"]["template"]["spec"]["securityContext"]["runAsUser"] == 10001
