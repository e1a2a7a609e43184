"""What repeats a run: its command, its settings, and the versions that made its numbers."""

import shlex
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from tasks.core.base.settings import ApplySettings, Settings
from tasks.core.results.record import ApplyRecord, Record
from tasks.core.results.summary import Table


def settings_of(record: Record) -> type[BaseModel]:
    """Give the class of a run's settings."""
    return ApplySettings if isinstance(record, ApplyRecord) else Settings


def changed_settings(record: Record) -> dict[str, Any]:
    """Give the settings of a run that are not the defaults, as the record has them."""
    fields = settings_of(record).model_fields
    return {
        name: value for name, value in record.settings.items() if name not in fields or value != fields[name].default
    }


def repeat_command(record: Record) -> str:
    """Give the command that repeats a run, quoted for a POSIX shell: what is not a default is a flag, one a line."""
    command = "python flows/run.py" + (" apply" if isinstance(record, ApplyRecord) else "")
    flags = (shlex.join(_flag(name, value)) for name, value in changed_settings(record).items())
    return " \\\n    ".join([command, *flags])


def _flag(name: str, value: object) -> list[str]:
    if isinstance(value, bool):
        return [f"--{name}" if value else f"--no-{name}"]
    # The command line's word for none.
    given = "null" if value is None else str(value)
    return [f"--{name}={given}"] if given.startswith("-") else [f"--{name}", given]


def told_settings(record: Record) -> Iterator[tuple[str, object, bool, str | None]]:
    """Give of each setting its name, its value, whether that is not the default, and what the setting means."""
    fields, changed = settings_of(record).model_fields, changed_settings(record)
    for name, value in record.settings.items():
        yield name, value, name in changed, fields[name].description if name in fields else None


def versions(record: Record) -> list[Table]:
    """List what made the numbers: packages, processor and its kernels, and which stages where there are several."""
    made_in = record.environments
    heads = [f"environment {at}" for at in range(1, len(made_in) + 1)] if len(made_in) > 1 else ["version"]
    names = dict.fromkeys(name for one in made_in for name in one)
    rows = [(name, *(one.get(name, "not told") for one in made_in)) for name in names]
    by_stage = [(cost.stage, ", ".join(str(at + 1) for at in cost.environments)) for cost in record.stages]
    made = Table("Packages, the library of linear algebra and its kernels, the processor", ["what", *heads], rows)
    return [
        made,
        *([Table("What made which results", ["stage", "environments"], by_stage)] if len(made_in) > 1 else []),
    ]
