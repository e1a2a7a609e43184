"""Results on their way to the output: checked against what is there, and put in place in one step.

Whoever sees `run.json` sees all that it lists, whole: a delivery takes the old one away first and puts the new one in
place last. Between the two a journal of its own lists what was there and what is to come, by which the next run tells
the leftovers of one that was killed from other people's files. Nothing else is ever overwritten or removed.

Where no lock keeps the runs of two machines apart, one removes the other's journal, having written down what it lists,
and so overtakes it. Before each step a run looks for its own: so after it was overtaken it takes one step at most. What
that may have been, and all that it may undo, the journal of the one that overtook says, which for this stays.
"""

import hashlib
import re
import uuid
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn, Self, TypeVar

from pydantic import BaseModel, ValidationError

from tasks.core.base.errors import SettingsError, StoreError
from tasks.core.references.model import Output
from tasks.core.results.drafts import Draft
from tasks.core.results.history import HISTORY, HISTORY_PICTURE
from tasks.core.results.record import RECORD, Record
from tasks.core.storage.files import DRAFT, Entry, Files
from tasks.core.storage.store import Store

R = TypeVar("R", bound=Record)

EMBEDDINGS_CSV = "embeddings.csv"
# Folders of parts, each of one kind: who reads a folder takes it for one table.
PARQUET_PARTS, CSV_PARTS = "embeddings", "embeddings-csv"
_SUFFIXES = {PARQUET_PARTS: "parquet", CSV_PARTS: "csv"}
# A folder, for no two deliveries may write to one journal.
JOURNALS = ".deliveries"
# On S3 a larger file of the listed size that is older than the record is not read: its times are S3's own.
_READ_BYTES = 2**24
# Of disks and of S3, in bytes.
_LONGEST_STEP, _LONGEST_NAME = 255, 1_000
_NAMED_IN_MESSAGES = 5
_JOURNAL = re.compile(r"[0-9a-f]{32}\.json")


class _Listing(BaseModel):
    """What of a record or a journal lists files of this project; anybody may have written either."""

    outputs: tuple[Output, ...]


class _OfRecord(_Listing):
    settings: dict[str, Any]
    dataset: dict[str, Any]
    normalization: dict[str, Any]
    series: dict[str, Any] | None = None
    content: str | None = None


class _Journal(_Listing):
    """What one delivery found listed, and what it puts in place.

    Attributes:
        delivered: whether it has ended well, and its journal stays for the sake of those that it overtook.
    """

    delivered: bool = False


@dataclass(frozen=True)
class _Ours:
    """What earlier runs have left in an output, as they listed it.

    Attributes:
        recorded: what the record lists.
        written: when the record was, in seconds since 1970.
        journals: by their names.
    """

    files: Files
    recorded: tuple[Output, ...] = ()
    written: float = 0.0
    journals: dict[str, _Journal] = field(default_factory=dict)

    @classmethod
    def read(cls, files: Files) -> Self:
        """Read the journals and the record, as far as they are this project's."""
        # In this order: a run that ends meanwhile puts its record in place before its journal goes.
        there = () if _is_file(files, JOURNALS) else files.walk(JOURNALS)
        names = (entry.path for entry in there if _JOURNAL.fullmatch(entry.path.removeprefix(f"{JOURNALS}/")))
        found = {name: _parse(_Journal, files.read(name)) for name in names}
        journals = {name: journal for name, journal in found.items() if journal}
        entry, record = files.entry(RECORD), _parse(_OfRecord, files.read(RECORD))
        if not entry or not record:
            return cls(files, journals=journals)
        return cls(files, (*record.outputs, *_unlisted(files, record, entry.modified)), entry.modified, journals)

    @cached_property
    def listed(self) -> tuple[Output, ...]:
        """All that can be a file here."""
        outputs = (*self.recorded, *(output for journal in self.journals.values() for output in journal.outputs))
        return tuple(output for output in dict.fromkeys(outputs) if _is_within(output.name))

    @cached_property
    def _digests(self) -> dict[tuple[str, int], set[str]]:
        digests: dict[tuple[str, int], set[str]] = {}
        for output in self.listed:
            digests.setdefault((output.name, output.size), set()).add(output.sha256)
        return digests

    @cached_property
    def _recorded_sizes(self) -> set[tuple[str, int]]:
        return {(output.name, output.size) for output in self.recorded}

    def has(self, entry: Entry) -> bool:
        """Whether a file is one that is listed, and has not been changed since."""
        place = (entry.path, entry.size)
        if place not in self._digests or self.files.is_linked(entry.path):
            return False
        is_told_by_time = not self.files.is_local and entry.size > _READ_BYTES and entry.modified < self.written
        if is_told_by_time and place in self._recorded_sizes:
            return True
        return self.files.sha256(entry.path) in self._digests[place]

    def has_at(self, name: str) -> bool:
        """Whether there is such a file at a place."""
        try:
            entry = self.files.entry(name)
        except StoreError as error:
            # A folder of the listed name's is a file.
            if isinstance(error.__cause__, NotADirectoryError):
                return False
            raise
        return entry is not None and self.has(entry)


@dataclass
class _Delivery:
    """A delivery under way.

    Attributes:
        name: of its journal.
        has_met: whether others had not ended; they may be at work, or were killed.
    """

    output: Store
    outputs: Sequence[Output]
    name: str
    has_met: bool = False

    def begin(self) -> _Ours:
        """Write down what is there and what is to come, and withdraw the record; give what was there."""
        files = self.output.files
        ours, written = _Ours.read(files), None
        # Until all that is listed has been written down: either of two runs that meet here sees the other's journal.
        while written is None or not set(ours.listed) <= written:
            written = {*ours.listed, *self.outputs}
            journal = _Journal(outputs=tuple(dict.fromkeys((*ours.listed, *self.outputs))))
            files.write(self.name, journal.model_dump_json().encode())
            self.outputs = journal.outputs
            self._meet(ours)
            ours = _Ours.read(files)
            self.check_alone()
        self._meet(ours)
        _clear(files, {RECORD, *(output.name for output in self.outputs)})
        for name in ours.journals.keys() - {self.name}:
            files.remove(name)
        _withdraw(files, [RECORD])
        return ours

    def check_alone(self) -> None:
        """Raise StoreError if another run has overtaken this one."""
        if self.output.files.read(self.name) is None:
            self._give_way()

    def end(self) -> None:
        """Remove the journal, the record being in place; or leave it for those that may have been overtaken."""
        files = self.output.files
        self.check_alone()
        if not self.has_met:
            files.remove(self.name)
            files.remove_emptied(JOURNALS)
            return
        # One that was overtaken may have taken a step since.
        if not _is_whole(files):
            self._give_way()
        files.write(self.name, _Journal(outputs=tuple(self.outputs), delivered=True).model_dump_json().encode())

    def _meet(self, ours: _Ours) -> None:
        others = (journal for name, journal in ours.journals.items() if name != self.name)
        self.has_met |= any(not journal.delivered for journal in others)

    def _give_way(self) -> NoReturn:
        files = self.output.files
        # What was put in place since is ours, whoever overwrote the record that lists it.
        files.write(self.name, _Journal(outputs=tuple(self.outputs)).model_dump_json().encode())
        if not _is_whole(files):
            _withdraw(files, [RECORD])
        raise StoreError(
            f"another run delivers its results to {self.output.url}: run this one again, with another --output"
        )


def part_name(folder: str, number: int) -> str:
    """Give the place of a part in the output."""
    return f"{folder}/part-{number:05}.{_SUFFIXES[folder]}"


def check_free(output: Store, names: Iterable[str]) -> None:
    """Check that nothing but what an earlier run has left is where a run will write.

    Args:
        output: of the run.
        names: of files, or `folder/` for all parts in it.

    Raises:
        SettingsError: the output is among the parts of another one.
        StoreError: there are files of others, or results that were changed since; names them.
    """
    _check_apart(output)
    ours = _Ours.read(output.files)
    _refuse(output, [path for name in (RECORD, f"{JOURNALS}/", *names) for path in _in_the_way(ours, name)])


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

    delivery = _Delivery(output, outputs, f"{JOURNALS}/{uuid.uuid4().hex}.json")
    ours = delivery.begin()
    for name in names:
        delivery.check_alone()
        _refuse(output, _in_the_way(ours, name))
        files.move_in(folder / name, name)
    delivery.check_alone()
    _withdraw(files, [stale for stale in {listed.name for listed in ours.listed} - {*names} if ours.has_at(stale)])
    delivery.check_alone()
    files.move_in(folder / RECORD, RECORD)
    delivery.end()
    return record


def find_delivered(output: Store, content: str | None) -> tuple[Output, ...]:
    """Give the files of results of this content that are in an output, whole; none where there are no such results."""
    found = _parse(_OfRecord, output.files.read(RECORD)) if content else None
    return found.outputs if found and found.content == content and _is_whole(output.files) else ()


def describe(folder: Path) -> tuple[Output, ...]:
    """Give the name, size and digest of each file of a folder, in order of their names."""
    made = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        made.append(Output(name=path.relative_to(folder).as_posix(), size=path.stat().st_size, sha256=digest))
    return tuple(made)


def _withdraw(files: Files, names: Sequence[str]) -> None:
    for name in names:
        files.remove(name)
    # Or else they might come back with the power.
    for folder in {name.rpartition("/")[0] for name in names}:
        files.settle(folder)


def _clear(files: Files, names: Collection[str]) -> None:
    """Remove the drafts of our files that killed processes have left on a local disk."""
    for folder in {JOURNALS, *(name.rpartition("/")[0] for name in names)} if files.is_local else ():
        for path in Path(files.locate(folder)).glob(".*"):
            draft, at = DRAFT.fullmatch(path.name), f"{folder}/{path.name}".lstrip("/")
            is_ours = draft and (
                _JOURNAL.fullmatch(draft["of"])
                if folder == JOURNALS
                else f"{folder}/{draft['of']}".lstrip("/") in names
            )
            if is_ours and path.is_file() and not files.is_linked(at):
                files.remove(at)


def _is_whole(files: Files) -> bool:
    """Whether all that the record lists is there, if there is one of this project's."""
    record = _parse(_OfRecord, files.read(RECORD))
    if record is None:
        return True
    ours = _Ours(files, record.outputs)
    return len(ours.listed) == len(record.outputs) and all(ours.has_at(output.name) for output in ours.listed)


def _check_apart(output: Store) -> None:
    # Who reads the parts reads all that is below their folder.
    files = output.files
    place = Path(files.root).resolve() if files.is_local else PurePosixPath(files.root)
    for folder in (place, *place.parents):
        if folder.name in _SUFFIXES and folder.parent.name:
            url = str(folder.parent) if files.is_local else f"s3://{folder.parent}"
            record = None
            # It may be read by others only, and is then not ours.
            with suppress(StoreError):
                record = _parse(_OfRecord, Files(url, files.patience, files.credentials).read(RECORD))
            if record:
                raise SettingsError(
                    f"--output {output.url} is in the folder '{folder.name}' of the results at {url}, which is "
                    "for their parts alone: choose another"
                )


def _unlisted(files: Files, record: _OfRecord, written: float) -> Iterator[Output]:
    """Give what earlier versions left of a series before its record, which did not list it."""
    if record.series is not None and HISTORY not in {output.name for output in record.outputs}:
        for name in (HISTORY, HISTORY_PICTURE):
            entry = files.entry(name)
            if entry and entry.modified <= written and (digest := files.sha256(name)):
                yield Output(name=name, size=entry.size, sha256=digest)


def _in_the_way(ours: _Ours, name: str) -> Iterator[str]:
    """Give the files of others in the place of one that is to be written, or among the parts of a folder."""
    files, (folder, _, file) = ours.files, name.rpartition("/")
    if files.is_linked(name):
        yield name
    elif folder and _is_file(files, folder):
        yield folder
    elif name == RECORD:
        if files.entry(name) and not _parse(_OfRecord, files.read(name)):
            yield name
    elif file:
        if (entry := files.entry(name)) and not ours.has(entry):
            yield name
    elif folder != JOURNALS:
        parts = (entry for entry in files.walk(folder) if entry.path.endswith(f".{_SUFFIXES[folder]}"))
        yield from (part.path for part in parts if not ours.has(part))


def _refuse(output: Store, taken: Iterable[str]) -> None:
    names = sorted(set(taken))
    if names:
        more = f" and {len(names) - _NAMED_IN_MESSAGES:,} more" if len(names) > _NAMED_IN_MESSAGES else ""
        raise StoreError(
            f"where the run would write, {output.url} has files that no run has left there, or that were changed "
            f"since: {', '.join(map(repr, names[:_NAMED_IN_MESSAGES]))}{more}; move them, or choose another --output"
        )


def _is_file(files: Files, folder: str) -> bool:
    return files.is_local and Path(files.locate(folder)).is_file()


def _parse(kind: type[Any], data: bytes | None) -> Any:
    try:
        return kind.model_validate_json(data or b"")
    except ValidationError:
        return None


def _is_within(name: str) -> bool:
    path = PurePosixPath(name)
    is_below = not path.is_absolute() and ".." not in path.parts and str(path) == name != "." and "\0" not in name
    is_short = len(name.encode()) <= _LONGEST_NAME and all(len(step.encode()) <= _LONGEST_STEP for step in path.parts)
    return is_below and is_short and path.parts[0] not in (RECORD, JOURNALS)
