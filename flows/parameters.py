"""A flow whose parameters are the fields of its settings, described and bounded in that one place.

What matters first stands alone; the rest is in groups, each a parameter whose value has its settings by name.
"""

import inspect
import re
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Annotated, Any, TypeVar, get_type_hints

from prefect.client.schemas.objects import State
from prefect.states import Failed
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from tasks.core.base.errors import SettingsError, TahoeFlowError
from tasks.core.base.refusals import explain
from tasks.core.base.settings import ApplySettings, Group, RunSettings, Settings

S = TypeVar("S", bound=RunSettings)
R = TypeVar("R")


def takes_settings(function: Callable[[S], R]) -> Callable[..., R | State[R]]:
    """Give a function of `settings`, of the type that it is annotated with, keyword parameters for their fields.

    Prefect makes a flow's form and its checks from the signature and the docstring, so both are written from the
    model: a schedule may then set some parameters and leave the others at their defaults. What goes wrong in a way
    that this project foresees is told in one line, in a state named Failed.
    """
    kind: type[S] = get_type_hints(function)["settings"]
    groups = _groups(kind)
    grouped = {name for group in groups.values() for name in group.model_fields}
    alone = {name: field for name, field in kind.model_fields.items() if name not in grouped}

    @wraps(function)
    def with_parameters(**parameters: Any) -> R | State[R]:
        try:
            return function(settings_of(kind, parameters))
        except TahoeFlowError as error:
            # Raised, it would be the flow's failure in words of Prefect's, and its traceback once more in the log.
            return Failed(message=in_form(str(error)), data=error)

    # inspect.signature follows __wrapped__ to the function of one model unless told otherwise.
    del with_parameters.__wrapped__
    with_parameters.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            *(_parameter(name, field) for name, field in alone.items()),
            *(
                inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default={}, annotation=group)
                for name, group in groups.items()
            ),
        ]
    )
    described = {name: field.description for name, field in alone.items()}
    described |= {name: inspect.getdoc(group) for name, group in groups.items()}
    lines = "\n".join(f"    {name}: {text}" for name, text in described.items())
    with_parameters.__doc__ = f"{inspect.getdoc(function)}\n\nArgs:\n{lines}"
    return with_parameters


def settings_of(kind: type[S], parameters: Mapping[str, Any]) -> S:
    """Give the settings that a flow's parameters are.

    Raises:
        SettingsError: some are refused; the message is one line.
    """
    for name, group in _groups(kind).items():
        value = parameters.get(name, {})
        if not isinstance(value, Mapping | group):
            raise SettingsError(f"{name} is a group of settings: give some by name, or none as {{}}")
        wrong = dict(value).keys() - group.model_fields
        if wrong:
            raise SettingsError(f"{name} has no setting '{min(map(str, wrong))}', but {', '.join(group.model_fields)}")
    fields = flat(parameters)
    # As forms have it.
    left_empty = [name for name, field in kind.model_fields.items() if field.default is None and fields.get(name) == ""]
    try:
        return kind(**{name: value for name, value in fields.items() if name not in left_empty})
    except ValidationError as error:
        raise SettingsError(explain(error)) from error


def parameters_of(settings: RunSettings) -> dict[str, Any]:
    """Give settings as the parameters of a flow that takes them."""
    fields = settings.model_dump()
    groups = _groups(type(settings)).items()
    grouped = {name: {one: fields.pop(one) for one in group.model_fields} for name, group in groups}
    return fields | grouped


def flat(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Give the settings among the parameters of a flow: those alone, and those of groups as far as they are given."""
    fields: dict[str, Any] = {}
    for name, value in parameters.items():
        if isinstance(value, BaseModel):
            fields |= value.model_dump(exclude_unset=True)
        elif isinstance(value, Mapping):
            fields |= value
        else:
            fields[name] = value
    return fields


def in_form(message: str) -> str:
    """Say of settings what is said of flags."""
    names = "|".join(Settings.model_fields | ApplySettings.model_fields)
    return re.sub(rf"--({names})\b", r"\1", message)


def _groups(kind: type[RunSettings]) -> dict[str, type[Group]]:
    """Give the groups among the bases of settings by their parameters' names, in the order of their fields."""
    return {base.__name__.lower(): base for base in reversed(kind.__mro__) if base.__bases__ == (Group,)}


def _parameter(name: str, field: FieldInfo) -> inspect.Parameter:
    default = inspect.Parameter.empty if field.is_required() else field.get_default(call_default_factory=True)
    # Or else the server would refuse the default that it was told of: none is no text.
    default = "" if default is None else default
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[field.annotation, field]
    )
