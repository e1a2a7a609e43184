"""`python flows/run.py store ls|verify|prune`: look after a store."""

import argparse
import math
import os
import time
from collections.abc import Sequence

from pydantic import ValidationError
from rich.table import Table

from flows import console
from tasks.core.base.errors import SettingsError
from tasks.core.base.refusals import explain
from tasks.core.base.settings import Settings
from tasks.core.results import housekeeping
from tasks.core.results.housekeeping import Contents, Survey
from tasks.core.results.summary import one_line
from tasks.core.storage.store import Store, store_of

_UNITS = ("B", "kB", "MB", "GB", "TB")


def run(arguments: Sequence[str]) -> int:
    """Do what the command line says; give the exit code."""
    parser = argparse.ArgumentParser(prog="python flows/run.py store", description=__doc__)
    default = os.environ.get("TAHOE_STORE", Settings.model_fields["store"].default)
    commands = parser.add_subparsers(dest="command", required=True, metavar="ls|verify|prune")
    for name, meaning in {
        "ls": "what is in the store, by stage and by run",
        "verify": "compare every object with its checksum; damaged ones are made again when needed",
        "prune": "remove what no run of the last days used",
    }.items():
        command = commands.add_parser(name, help=meaning, description=meaning)
        command.add_argument("--store", default=default, help="a path or s3://bucket/prefix")
        command.add_argument(
            "--credentials",
            default=os.environ.get("TAHOE_CREDENTIALS"),
            help=Settings.model_fields["credentials"].description,
        )
    commands.choices["prune"].add_argument("--days", type=float, default=30.0, help="of how many days (default: 30)")
    commands.choices["prune"].add_argument("--dry_run", action="store_true", help="only say what would be removed")
    given = parser.parse_args(arguments)
    if given.command == "prune" and not 0 <= given.days < math.inf:
        raise SettingsError(f"--days {given.days} is out of range: give 0 or more")
    try:
        settings = Settings(store=given.store, credentials=given.credentials)
    except ValidationError as error:
        raise SettingsError(explain(error)) from None
    if settings.credentials is not None:
        _hold(settings.credentials)
    return _do(given, store_of(settings))


def _hold(block: str) -> None:
    # Prefect takes seconds to import, and most stores need nothing of it.
    from flows import server  # noqa: PLC0415
    from flows.credentials import hold  # noqa: PLC0415

    server.configured().check()
    hold(block)


def _do(given: argparse.Namespace, store: Store) -> int:
    if given.command == "ls":
        return _list(store)
    if given.command == "verify":
        return _verify(store)
    return _prune(store, given.days, dry_run=given.dry_run)


def _list(store: Store) -> int:
    found = housekeeping.survey(store)
    stages = Table("stage", "results", "files", "size")
    for contents in housekeeping.by_stage(found):
        stages.add_row(contents.name, *_numbers(contents))
    runs = Table("run", "began", "asked for", "state", "results", "files", "size")
    for name, mark, contents in housekeeping.by_run(store, found):
        asked = one_line(", ".join(f"{key} {value}" for key, value in mark.asked.items()))
        began = time.strftime("%Y-%m-%d %H:%M", time.localtime(mark.began))
        runs.add_row(one_line(name), began, asked, one_line(mark.state), *_numbers(contents))
    console.show(stages)
    console.show(runs)
    _show_note(found)
    return 0


def _verify(store: Store) -> int:
    damaged, unread = 0, list[str]()
    for what in housekeeping.verify(store, unread.append):
        console.complain(what)
        damaged += 1
    console.show(f"{damaged:,} objects were damaged: made again when needed" if damaged else "every object is whole")
    _show_unread(unread)
    return 1 if damaged else 0


def _prune(store: Store, days: float, *, dry_run: bool) -> int:
    found = housekeeping.survey(store)
    remove = housekeeping.prunable if dry_run else housekeeping.prune
    removed = remove(store, found, days)
    for folder, size in sorted(removed.items()):
        console.show(f"{folder}  {_bytes(size)}")
    done = "would be removed" if dry_run else "removed"
    console.show(f"{len(removed):,} results, {_bytes(sum(removed.values()))} {done}")
    _show_note(found)
    return 0


def _show_note(found: Survey) -> None:
    if found.others:
        size = sum(entry.size for entry in found.others)
        console.show(f"{len(found.others):,} files, {_bytes(size)}, are of no result and left alone")
    _show_unread(found.unread)


def _show_unread(paths: Sequence[str]) -> None:
    if paths:
        console.show(f"{len(paths):,} paths may not be looked at and are left alone: {one_line(', '.join(paths))}")


def _numbers(contents: Contents) -> tuple[str, str, str]:
    return f"{contents.results:,}", f"{contents.files:,}", _bytes(contents.size)


def _bytes(size: float) -> str:
    unit = 0
    while size >= 1000 and unit < len(_UNITS) - 1:
        size, unit = size / 1000, unit + 1
    return f"{size:.3g} {_UNITS[unit]}"
