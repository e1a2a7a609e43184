"""The engine of a run: who carries out the steps of its stages, and does its folds."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from prefect.settings import get_current_settings

from flows.engines.begin import Beginning
from tasks.core.base.errors import SettingsError, first_line
from tasks.core.base.settings import RunSettings
from tasks.core.numerics.workers import Workers

# A cluster may grow while a run works.
_MAY_GROW = 2


@dataclass(frozen=True)
class Engine:
    """Who works for a run.

    Attributes:
        workers: in other processes; None where threads of this one do it all.
        steps: of a stage that are carried out, or wait for a worker, at the same time.
    """

    workers: Workers | None
    steps: int


@contextmanager
def engine_of(settings: RunSettings) -> Iterator[Engine]:
    """Give the engine that the settings ask for, for as long as the block lasts.

    Raises:
        SettingsError: it is not installed.
        EngineError: it cannot be reached.
    """
    number, beginning = settings.threads, _beginning(settings.credentials)
    if settings.engine == "threads":
        yield Engine(None, number)
    else:
        with _dask().cluster(settings.dask_address, number, beginning) as workers:
            yield Engine(workers, workers.ahead * (_MAY_GROW if settings.dask_address else 1))


def _beginning(block: str | None) -> Beginning:
    """Take the server from the run at hand."""
    return Beginning(block, get_current_settings().api.url if block else None)


def _dask() -> Any:
    try:
        return import_module("flows.engines.cluster")
    except ModuleNotFoundError as error:
        raise SettingsError(f"--engine dask needs {error.name}, which is not installed: pip install .[dask]") from None
    except ValueError as error:
        raise SettingsError(f"Dask's own settings cannot be read: {first_line(error).rstrip(':')}") from error
