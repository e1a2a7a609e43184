"""The command line: settings from flags, environment and a file; then the flow; then what came out."""

import argparse
import inspect
import os
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    CliApp,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from flows import console, store_command
from tasks.core.errors import SettingsError, TahoeFlowError, first_line
from tasks.core.memory import use_one_heap
from tasks.core.settings import Settings, explain

# Exit code of a run that ends well but left bad data out.
_SKIPPED_DATA = 3
# What Prefect must find before it is imported.
_QUIET = {"PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL"}


class CommandLine(Settings, BaseSettings):
    """Stream single cells, build sparse counts, normalize, reduce with truncated SVD and cluster with K-means.

    Writes embeddings.csv and pca_variance.csv. Each flag can also be set in the environment, as TAHOE_SAMPLES=50000,
    or in a TOML file, as samples = 50000; a flag wins over the environment, which wins over the file.
    `python flows/run.py store --help` tells how to look after a store.
    """

    model_config = SettingsConfigDict(
        env_prefix="TAHOE_",
        cli_prog_name="python flows/run.py",
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


# --help prints it as it stands, and before Python 3.13 it stands indented.
CommandLine.__doc__ = inspect.cleandoc(CommandLine.__doc__ or "")


def main(arguments: Sequence[str]) -> int:
    """Run the flow as the command line says; give the exit code."""
    debug = "--debug" in arguments
    use_one_heap()
    try:
        if arguments[:1] == ["store"]:
            return store_command.run(arguments[1:])
        return _run(read_settings(arguments), debug=debug)
    except TahoeFlowError as error:
        if debug:
            raise
        console.complain(str(error))
        return 2 if isinstance(error, SettingsError) else 1
    except KeyboardInterrupt:
        console.complain("stopped; the same command goes on from here")
        return 130


def read_settings(arguments: Sequence[str]) -> Settings:
    """Read the settings from flags, environment and file.

    Raises:
        SettingsError: some are refused; the message is one line.
    """
    try:
        given = CliApp.run(CommandLine, cli_args=list(arguments), **_read_file(arguments))
    except ValidationError as error:
        raise SettingsError(explain(error)) from error
    return Settings(**given.model_dump(include=set(Settings.model_fields)))


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


def _run(settings: Settings, *, debug: bool) -> int:
    for name, value in ({} if debug else _QUIET).items():
        os.environ.setdefault(name, value)
    # Prefect takes seconds to import: not before the settings have been found good, and the rest while a server starts.
    from flows import server  # noqa: PLC0415

    with server.chosen() as chosen:
        console.tell(str(chosen))
        from flows.cluster_cells import cluster_cells  # noqa: PLC0415

        chosen.check()
        with console.progress():
            record = cluster_cells(**settings.model_dump())
    console.summarize(settings, record)
    return _SKIPPED_DATA if record.bad_data else 0
