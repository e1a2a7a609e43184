"""A flow whose parameters are the fields of its settings, described and bounded in that one place."""

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any, TypeVar, get_type_hints

from pydantic.fields import FieldInfo

from tasks.core.base.settings import RunSettings

S = TypeVar("S", bound=RunSettings)
R = TypeVar("R")


def takes_settings(function: Callable[[S], R]) -> Callable[..., R]:
    """Give a function of `settings`, of the type that it is annotated with, one keyword parameter for each field.

    Prefect makes a flow's form and its checks from the signature and the docstring, so both are written from the
    model: a schedule may then set some parameters and leave the others at their defaults.
    """
    kind: type[S] = get_type_hints(function)["settings"]
    fields = kind.model_fields

    @wraps(function)
    def with_parameters(**parameters: Any) -> R:
        return function(kind(**parameters))

    # inspect.signature follows __wrapped__ to the function of one model unless told otherwise.
    del with_parameters.__wrapped__
    with_parameters.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [_parameter(name, field) for name, field in fields.items()]
    )
    described = "\n".join(f"    {name}: {field.description}" for name, field in fields.items())
    with_parameters.__doc__ = f"{inspect.getdoc(function)}\n\nArgs:\n{described}"
    return with_parameters


def _parameter(name: str, field: FieldInfo) -> inspect.Parameter:
    default = inspect.Parameter.empty if field.is_required() else field.get_default(call_default_factory=True)
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[field.annotation, field]
    )
