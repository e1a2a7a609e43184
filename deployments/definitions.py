"""The deployments as a file in the layout of `prefect.yaml` defines them, read and checked before anything starts."""

from pathlib import Path
from typing import Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from tasks.core.base.errors import SettingsError, first_line
from tasks.core.base.refusals import explain
from tasks.core.base.settings import Settings

ROOT = Path(__file__).resolve().parents[1]
FILE = ROOT / "deployments" / "prefect.yaml"


class _Strict(BaseModel):
    # A misspelt key would else be left out in silence.
    model_config = ConfigDict(frozen=True, extra="forbid")


class CronLine(_Strict):
    """When a deployment runs."""

    slug: str
    cron: str
    timezone: str
    active: bool

    @field_validator("timezone")
    @classmethod
    def _is_known(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError) as error:
            raise ValueError(f"there is no time zone '{name}'") from error
        return name


class Limit(_Strict):
    """How many runs of a deployment there may be at a time, and what becomes of one more."""

    limit: int = Field(ge=1)
    collision_strategy: Literal["ENQUEUE", "CANCEL_NEW"]


class Pool(_Strict):
    """Who runs a deployment, where it is not served."""

    name: str


class Definition(_Strict):
    """One deployment."""

    name: str
    description: str
    tags: list[str]
    entrypoint: str
    parameters: dict[str, Any]
    schedules: list[CronLine] = Field(default_factory=list)
    concurrency_limit: Limit
    enforce_parameter_schema: bool
    paused: bool
    work_pool: Pool


def read(file: Path = FILE) -> list[Definition]:
    """Read the deployments of a file and check their parameters against the settings.

    Raises:
        SettingsError: the file or a deployment in it is refused; the message is one line.
    """
    try:
        found = yaml.safe_load(file.read_text())["deployments"]
    except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
        raise SettingsError(f"{file}: no deployments can be read: {' '.join(str(error).split())}") from error
    return [_read_one(definition, f"{file}, deployment {number}") for number, definition in enumerate(found, 1)]


def _read_one(found: Any, where: str) -> Definition:
    try:
        definition = Definition.model_validate(found)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        key = ".".join(map(str, problem["loc"]))
        raise SettingsError(f"{where}: {key}: {first_line(ValueError(problem['msg']))}") from error
    try:
        Settings(**definition.parameters)
    except ValidationError as error:
        raise SettingsError(f"{where} ({definition.name}): {explain(error)}") from error
    return definition
