"""Refused settings, as one line that a person can act on."""

from typing import Any

from pydantic import ValidationError

from tasks.core.base.settings import ApplySettings, Settings, has_credentials

# Where settings contradict each other, no single one is at fault.
_TOGETHER = "settings"


def explain(error: ValidationError) -> str:
    """Say in one line which settings were refused, with the values seen and the bounds."""
    return "; ".join(_explain_one(str(problem["loc"][0]), problem) for problem in _one_per_setting(error))


def _one_per_setting(error: ValidationError) -> list[dict[str, Any]]:
    # A setting of two types (samples) is refused once for each: the first says the bound.
    first: dict[Any, dict[str, Any]] = {}
    for problem in error.errors(include_url=False):
        first.setdefault((problem["loc"] or (_TOGETHER,))[0], dict(problem))
    return [problem | {"loc": (name,)} for name, problem in first.items()]


def _explain_one(name: str, problem: dict[str, Any]) -> str:
    if problem["type"] == "extra_forbidden":
        return f"there is no setting '{name}'; --help lists them"
    if name == _TOGETHER:
        return str(problem["msg"]).removeprefix("Value error, ")
    fields = Settings.model_fields | ApplySettings.model_fields
    meaning = fields[name].description if name in fields else None
    hint = f" ({meaning.rstrip('.')})" if meaning else ""
    if problem["type"] == "missing":
        return f"--{name} is missing{hint}"
    message = str(problem["msg"]).removeprefix("Value error, ")
    if problem["type"] == "string_unicode":
        message = "is not UTF-8: give what has this name another one, or a link to it"
    value = "(not shown)" if name == "credentials" or has_credentials(problem["input"]) else problem["input"]
    return f"--{name} {value}: {message[0].lower()}{message[1:]}{hint}"
