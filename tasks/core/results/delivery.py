"""Results on their way to the output: checked against what is there, and put in place in one step.

Whoever sees `run.json` sees all that it lists, whole: a delivery takes the old one away first and puts the new one in
place last. Between the two a journal lists what was there and what is to come, by which the next run tells the
leftovers of one that was killed from other people's files. Nothing else is ever overwritten or removed.
"""

import hashlib
import os
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Self, TypeVar

from pydantic import BaseModel, ValidationError

from tasks.core.base.errors import StoreError
from tasks.core.references.model import Output
from tasks.core.results.drafts import Draft
from tasks.core.results.record import RECORD, Record
from tasks.core.storage.files import Entry, Files
from tasks.core.storage.store import Store

R = TypeVar("R", bound=Record)

EMBEDDINGS_CSV = "embeddings.csv"
# Folders of parts, each of one kind: who reads a folder takes it for one table.
PARQUET_PARTS, CSV_PARTS = "embeddings", "embeddings-csv"
_SUFFIXES = {PARQUET_PARTS: "parquet", CSV_PARTS: "csv"}
JOURNAL = ".delivery.json"
# A larger file of the listed size is not read to tell that it is the one listed, unless it is newer than the list.
_READ_BYTES = 2**24
_NAMED_IN_MESSAGES = 5


class _Listing(BaseModel):
    """What of a record or a journal lists files of this project; anybody may have written either."""

    outputs: tuple[Output, ...]


class _OfRecord(_Listing):
    settings: dict[str, Any]
    dataset: dict[str, Any]
    normalization: dict[str, Any]


class _Journal(_Listing):
    """What one delivery found listed, and what it puts in place."""

    delivery: str


_LISTINGS: dict[str, type[_Listing]] = {RECORD: _OfRecord, JOURNAL: _Journal}


@dataclass(frozen=True)
class _Ours:
    """What earlier runs have left in an output, as they listed it.

    Attributes:
        written: when the list was, in seconds since 1970.
    """

    files: Files
    listed: tuple[Output, ...]
    written: float

    @classmethod
    def read(cls, files: Files) -> Self:
        """Read the record and the journal, as far as they are this project's."""
        listings = {name: _parse(kind, files.read(name)) for name, kind in _LISTINGS.items()}
        written = [entry.modified for name in _LISTINGS if listings[name] and (entry := files.entry(name))]
        listed = [output for listing in listings.values() if listing for output in listing.outputs]
        within = tuple(output for output in dict.fromkeys(listed) if _is_within(output.name))
        return cls(files, within, max(written, default=0.0))

    def has(self, entry: Entry) -> bool:
        """Whether a file is one that is listed, and has not been changed since."""
        alike = [output for output in self.listed if (output.name, output.size) == (entry.path, entry.size)]
        if not alike or (entry.size > _READ_BYTES and entry.modified < self.written):
            return bool(alike)
        return self.files.sha256(entry.path) in {output.sha256 for output in alike}

    def has_at(self, name: str) -> bool:
        """Whether there is such a file at a place."""
        entry = self.files.entry(name)
        return entry is not None and self.has(entry)


def part_name(folder: str, number: int) -> str:
    """Give the place of a part in the output."""
    return f"{folder}/part-{number:05}.{_SUFFIXES[folder]}"


def check_free(output: Store, names: Iterable[str]) -> None:
    """Check that nothing but what an earlier run has left is where a run will write.

    Args:
        output: of the run.
        names: of files, or `folder/` for all parts in it.

    Raises:
        StoreError: there are files of others, or results that were changed since; names them.
    """
    ours = _Ours.read(output.files)
    _refuse(output, [path for name in (*_LISTINGS, *names) for path in _in_the_way(ours, name)])


def deliver(draft: Draft, output: Store, record: R) -> R:
    """Put a draft in the place of what the run before had left, its record last, and give the record, files listed.

    What the run before listed and this one did not make is removed, unless it has been changed since.

    Raises:
        StoreError: the output cannot be written, or other people's files are in the way; or another run delivers to it.
    """
    folder, files = Path(draft.folder), output.files
    with draft.opened():
        outputs = describe(folder)
        record = record.model_copy(update={"outputs": outputs})
        # Already now: on a disk that is full, all that is yet to come are renames.
        (folder / RECORD).write_text(record.model_dump_json(indent=2))
    names = [made.name for made in outputs]
    check_free(output, [*names, *{f"{name.rpartition('/')[0]}/" for name in names if "/" in name}])

    ours = _Ours.read(files)
    journal = _begin(ours, outputs)
    for name in names:
        _check_alone(output, journal)
        _refuse(output, _in_the_way(ours, name))
        files.move_in(folder / name, name)
    _check_alone(output, journal)
    _withdraw(files, [stale for stale in {listed.name for listed in ours.listed} - {*names} if ours.has_at(stale)])
    files.move_in(folder / RECORD, RECORD)
    files.remove(JOURNAL)
    return record


def describe(folder: Path) -> tuple[Output, ...]:
    """Give the name, size and digest of each file of a folder, in order of their names."""
    made = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        made.append(Output(name=path.relative_to(folder).as_posix(), size=path.stat().st_size, sha256=digest))
    return tuple(made)


def _begin(ours: _Ours, outputs: Sequence[Output]) -> _Journal:
    """Write down what is there and what is to come, and withdraw the record."""
    there = [output for output in ours.listed if ours.has_at(output.name)]
    journal = _Journal(delivery=uuid.uuid4().hex, outputs=(*there, *outputs))
    ours.files.write(JOURNAL, journal.model_dump_json().encode())
    _withdraw(ours.files, [RECORD])
    return journal


def _check_alone(output: Store, journal: _Journal) -> None:
    # Runs of two machines may meet here, where no lock keeps them apart.
    if _parse(_Journal, output.files.read(JOURNAL)) != journal:
        raise StoreError(f"another run delivers its results to {output.url}: run this one again, with another --output")


def _withdraw(files: Files, names: Sequence[str]) -> None:
    for name in names:
        files.remove(name)
    if files.is_local:
        # Or else they might come back with the power.
        for folder in {Path(files.locate(name)).parent for name in names}:
            at = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(at)
            finally:
                os.close(at)


def _in_the_way(ours: _Ours, name: str) -> Iterator[str]:
    """Give the files of others in the place of one that is to be written, or among the parts of a folder."""
    files, (folder, _, file) = ours.files, name.rpartition("/")
    if files.is_linked(name):
        yield name
    elif folder and files.is_local and Path(files.locate(folder)).is_file():
        yield folder
    elif name in _LISTINGS:
        if files.entry(name) and not _parse(_LISTINGS[name], files.read(name)):
            yield name
    elif file:
        if (entry := files.entry(name)) and not ours.has(entry):
            yield name
    else:
        parts = (entry for entry in files.walk(folder) if entry.path.endswith(f".{_SUFFIXES[folder]}"))
        yield from (part.path for part in parts if not ours.has(part))


def _refuse(output: Store, taken: Iterable[str]) -> None:
    names = sorted(taken)
    if names:
        more = f" and {len(names) - _NAMED_IN_MESSAGES:,} more" if len(names) > _NAMED_IN_MESSAGES else ""
        raise StoreError(
            f"where the run would write, {output.url} has files that no run has left there, or that were changed "
            f"since: {', '.join(map(repr, names[:_NAMED_IN_MESSAGES]))}{more}; move them, or choose another --output"
        )


def _parse(kind: type[Any], data: bytes | None) -> Any:
    try:
        return kind.model_validate_json(data or b"")
    except ValidationError:
        return None


def _is_within(name: str) -> bool:
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts and str(path) == name != "." and "\0" not in name
