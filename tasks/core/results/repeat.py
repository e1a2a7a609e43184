"""The command that repeats a run."""

import shlex
from typing import Any

from pydantic import BaseModel

from tasks.core.base.settings import ApplySettings, Settings
from tasks.core.results.record import ApplyRecord, Record


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
