"""The command line: settings from flags, environment and a file; then the flow; then what came out."""

import argparse
import inspect
import os
import tomllib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from importlib import import_module
from io import StringIO
from pathlib import Path
from typing import Any, TypeVar

from pydantic import Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    CliApp,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from flows import console, plan_command, store_command
from flows.plan_command import PlanFlags
from tasks.core.base.errors import SettingsError, TahoeFlowError, first_line
from tasks.core.base.memory import importing, use_one_heap, wants_memory, wants_threads
from tasks.core.base.refusals import explain
from tasks.core.base.settings import ApplySettings, RunSettings, Settings
from tasks.core.results.record import ApplyRecord, Record, RunRecord, read_record
from tasks.core.storage.store import output_of

S = TypeVar("S", bound=RunSettings)
G = TypeVar("G", bound="_Given")

# Exit code of a run that ends well but left bad data out.
_SKIPPED_DATA = 3
# What Prefect must find before it is imported.
_QUIET = {"PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL", "PREFECT_LOGGING_INTERNAL_LEVEL": "CRITICAL"}


class _Given(BaseSettings):
    """Settings as they are given on the command line, in the environment and in a file."""

    model_config = SettingsConfigDict(
        env_prefix="TAHOE_",
        cli_hide_none_type=True,
        cli_parse_none_str="null",
        cli_implicit_flags=True,
        use_attribute_docstrings=True,
    )

    settings_file: Path | None = Field(None)
    """A TOML file with settings."""
    debug: bool = Field(False)
    """Show Prefect's log and, on an error, the traceback."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003  (the signature is pydantic's)
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Put the environment above the settings file, whose content comes as arguments of the class."""
        return env_settings, init_settings


class FitCommand(_Given, PlanFlags, Settings):
    """Stream single cells, build sparse counts, normalize, reduce with truncated SVD and cluster with K-means.

    Writes embeddings.csv and pca_variance.csv. Each flag can also be set in the environment, as TAHOE_SAMPLES=50000,
    or in a TOML file, as samples = 50000; a flag wins over the environment, which wins over the file.
    With --plan it runs on a few cells in a temporary folder, and says what the run would take.
    `python flows/run.py apply --help` tells how to apply the model that a run leaves to other cells, and
    `python flows/run.py store --help` how to look after a store.
    """

    model_config = SettingsConfigDict(cli_prog_name="python flows/run.py")


class ApplyCommand(_Given, ApplySettings):
    """Embed and label cells by the model that an earlier run left in its output: nothing is fitted.

    Writes embeddings.csv. Each flag can also be set in the environment, as TAHOE_MODEL=results, or in a TOML file, as
    model = "results"; a flag wins over the environment, which wins over the file.
    """

    model_config = SettingsConfigDict(cli_prog_name="python flows/run.py apply")


# --help prints them as they stand, and before Python 3.13 they stand indented.
for _command in (FitCommand, ApplyCommand):
    _command.__doc__ = inspect.cleandoc(_command.__doc__ or "")


def main(arguments: Sequence[str]) -> int:
    """Run the flow as the command line says; give the exit code."""
    debug = "--debug" in arguments
    use_one_heap()
    try:
        if arguments[:1] == ["store"]:
            return store_command.run(arguments[1:])
        if arguments[:1] == ["apply"]:
            return _apply(arguments[1:], debug=debug)
        return _fit(arguments, debug=debug)
    except TahoeFlowError as error:
        if debug:
            raise
        console.complain(str(error))
        return 2 if isinstance(error, SettingsError) else 1
    except Exception as error:
        if debug or not (wants_memory(error) or wants_threads(error)):
            raise
        console.complain(
            f"{'threads are' if wants_threads(error) else 'memory is'} short; what is finished is kept: the same "
            "command goes on from there, with less if --workers or --block_cells is lower"
        )
        return 1


def _fit(arguments: Sequence[str], *, debug: bool) -> int:
    given = read_given(arguments, FitCommand)
    settings = settings_of(given, Settings)
    plan_command.check_flags(given)
    with _ready("cluster_cells", settings, debug=debug) as carry_out:
        if given.plan:
            return plan_command.run(settings, given, carry_out)
        settings = carry_out(settings)
    record = read_record(output_of(settings), RunRecord)
    console.summarize_fit(settings, record)
    return _exit_code(record)


def _apply(arguments: Sequence[str], *, debug: bool) -> int:
    settings = read_settings(arguments, ApplyCommand, ApplySettings)
    with _ready("apply_model", settings, debug=debug) as carry_out:
        settings = carry_out(settings)
    record = read_record(output_of(settings), ApplyRecord)
    console.summarize_applied(settings, record)
    return _exit_code(record)


def read_settings(arguments: Sequence[str], command: type[_Given], kind: type[S]) -> S:
    """Read the settings of a command from flags, environment and file.

    Raises:
        SettingsError: some are refused; the message is one line.
    """
    return settings_of(read_given(arguments, command), kind)


def read_given(arguments: Sequence[str], command: type[G]) -> G:
    """Read what a command is given by flags, environment and file.

    Raises:
        SettingsError: some are refused; the message is one line.
    """
    try:
        return CliApp.run(command, cli_args=list(_words(arguments)), **_read_file(arguments))
    except ValidationError as error:
        raise SettingsError(explain(error)) from error


def _words(arguments: Sequence[str]) -> Iterator[str]:
    # Of a value of several lines that stands behind `=`, pydantic-settings takes the first line.
    for word in arguments:
        yield from word.split("=", 1) if word.startswith("--") and "\n" in word else (word,)


def settings_of(given: _Given, kind: type[S]) -> S:
    """Give the settings of the run among what a command is given."""
    return kind(**given.model_dump(include=set(kind.model_fields)))


def _read_file(arguments: Sequence[str]) -> dict[str, Any]:
    flags = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    flags.add_argument("--settings_file", type=Path)
    path = flags.parse_known_args(arguments)[0].settings_file
    if path is None:
        return {}
    try:
        return tomllib.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise SettingsError(f"--settings_file {path}: {first_line(error)}") from error


@contextmanager
def _ready(flow: str, settings: S, *, debug: bool) -> Iterator[Callable[[S], S]]:
    """Give what runs a flow, and gives the settings with the place of the results."""
    for name, value in ({} if debug else _QUIET).items():
        os.environ.setdefault(name, value)
    # Prefect takes seconds to import: not before the settings have been found good, and the rest while a server starts.
    # What it says of its settings meanwhile, the server tells in one line.
    with importing(), redirect_stderr(StringIO()):
        from flows import server  # noqa: PLC0415

    if settings.credentials:
        # A temporary server has no blocks.
        server.configured()
    with server.chosen() as chosen:
        console.tell(str(chosen))
        with importing():
            from flows.parameters import parameters_of  # noqa: PLC0415

            run = getattr(import_module(f"flows.{flow}"), flow)
        chosen.check()

        def carry_out(settings: S) -> S:
            with console.progress():
                # Who asked is here: nothing needs to be kept for others.
                told = run.with_options(persist_result=False)(**parameters_of(settings))
            return settings.model_copy(update={"output": told["output"]})

        yield carry_out


def _exit_code(record: Record) -> int:
    return _SKIPPED_DATA if record.bad_data else 0
