"""Results on their way to the output: made in a draft, checked against what is there, and put in place last.

To deliver is to move. Whoever sees `run.json` sees all that it lists, whole: a delivery takes the old one away first
and puts the new one in place last. Between the two a journal in the draft lists what was there and what is to come, by
which the next run tells the leftovers of one that was killed from other people's files. Nothing else is ever
overwritten or removed.

On one machine a lock keeps a second run out. Where there are no locks, as on S3, a run that delivers removes the drafts
of others first, and these say so when their turn comes.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self, TypeVar

from tasks.core.base.errors import StoreError
from tasks.core.references.model import Output
from tasks.core.results.drafts import DRAFTS, JOURNAL, Draft, Listing, drafts, is_file, may_be_result, remove_drafts
from tasks.core.results.record import RECORD, Record
from tasks.core.storage.files import Entry, Files
from tasks.core.storage.store import Store

R = TypeVar("R", bound=Record)

EMBEDDINGS_CSV = "embeddings.csv"
# Folders of parts, each of one kind: who reads a folder takes it for one table.
PARQUET_PARTS, CSV_PARTS = "embeddings", "embeddings-csv"
_SUFFIXES = {PARQUET_PARTS: "parquet", CSV_PARTS: "csv"}
# On S3 a larger file of the listed size that is older than the record is not read: its times are S3's own.
_READ_BYTES = 2**24
_NAMED_IN_MESSAGES = 5


class _OfRecord(Listing):
    settings: dict[str, Any]
    dataset: dict[str, Any]
    normalization: dict[str, Any]
    content: str | None = None


@dataclass(frozen=True)
class _Ours:
    """What earlier runs have left in an output, as they listed it.

    Attributes:
        recorded: what the record lists.
        written: when the record was, in seconds since 1970.
        noted: what journals list.
    """

    files: Files
    recorded: tuple[Output, ...] = ()
    written: float = 0.0
    noted: tuple[Output, ...] = ()

    @classmethod
    def read(cls, files: Files) -> Self:
        """Read the journals and the record, as far as they are this project's."""
        journals = (Listing.parse(files.read(f"{DRAFTS}/{name}/{JOURNAL}")) for name in sorted(drafts(files)))
        noted = tuple(output for journal in journals if journal for output in journal.outputs)
        entry, record = files.entry(RECORD), _OfRecord.parse(files.read(RECORD))
        return cls(files, record.outputs, entry.modified, noted) if entry and record else cls(files, noted=noted)

    @cached_property
    def listed(self) -> tuple[Output, ...]:
        """All that can be a file here."""
        return tuple(
            output
            for output in dict.fromkeys((*self.recorded, *self.noted))
            if may_be_result(output.name) and output.name != RECORD
        )

    @cached_property
    def _digests(self) -> dict[tuple[str, int], set[str]]:
        digests: dict[tuple[str, int], set[str]] = {}
        for output in self.listed:
            digests.setdefault((output.name, output.size), set()).add(output.sha256)
        return digests

    @cached_property
    def _known(self) -> dict[Entry, bool]:
        return {}

    def has(self, entry: Entry) -> bool:
        """Whether a file is one that is listed, and has not been changed since."""
        if entry not in self._known:
            self._known[entry] = self._has(entry)
        return self._known[entry]

    def _has(self, entry: Entry) -> bool:
        place = (entry.path, entry.size)
        if place not in self._digests or self.files.is_linked(entry.path):
            return False
        if not self.files.is_local and entry.size > _READ_BYTES and entry.modified < self.written:
            return any((output.name, output.size) == place for output in self.recorded)
        return self.files.sha256(entry.path) in self._digests[place]

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
    _check_free(_Ours.read(output.files), output, names)


def deliver(draft: Draft, output: Store, record: R, made: Iterable[Output]) -> R:
    """Put files of a draft in the place of what the run before had left, the record last, and give that, files listed.

    What the run before listed and this one did not make is removed, unless it has been changed since.

    Raises:
        StoreError: the output cannot be written, or other people's files are in the way; or another run delivers to it.
    """
    files, outputs = output.files, tuple(sorted(made, key=lambda one: one.name))
    names = [one.name for one in outputs]
    record = record.model_copy(update={"outputs": outputs})
    ours = _Ours.read(files)
    _check_free(ours, output, [*names, *{f"{name.rpartition('/')[0]}/" for name in names if "/" in name}])

    there = {entry.path for entry in files.walk(draft.place("").rstrip("/"))}
    if not there.issuperset(map(draft.place, names)):
        raise _overtaken(output)
    # Before anything is withdrawn: on a disk that is full, all that is yet to come are renames.
    files.write(draft.place(RECORD), record.model_dump_json(indent=2).encode())
    listing = Listing(outputs=tuple(dict.fromkeys((*ours.listed, *outputs))))
    files.write(draft.place(JOURNAL), listing.model_dump_json().encode())
    remove_drafts(files, drafts(files) - {draft.name})
    _withdraw(files, [RECORD])
    for name in names:
        _move(draft, output, name, ours)
    _withdraw(files, [stale for stale in {listed.name for listed in ours.listed} - {*names} if ours.has_at(stale)])
    _move(draft, output, RECORD, ours)
    remove_drafts(files, [draft.name])
    return record


def find_delivered(output: Store, content: str | None) -> tuple[Output, ...]:
    """Give the files of results of this content that are in an output, whole; none where there are no such results."""
    files = output.files
    found = _OfRecord.parse(files.read(RECORD)) if content else None
    if not found or found.content != content:
        return ()
    ours = _Ours(files, found.outputs)
    is_whole = len(ours.listed) == len(found.outputs) and all(ours.has_at(one.name) for one in ours.listed)
    if not is_whole:
        return ()
    # Left by a run that was killed just after it had delivered them.
    remove_drafts(files, [Draft.of(content).name])
    outputs: tuple[Output, ...] = found.outputs
    return outputs


def _move(draft: Draft, output: Store, name: str, ours: _Ours) -> None:
    """Move a file of a draft to its place, which is free or has a file of ours, unless another run has overtaken us."""
    files = output.files
    if files.size(draft.place(JOURNAL)) is None:
        raise _overtaken(output)
    if name != RECORD:
        _refuse(output, _in_the_way(ours, name))
    files.move(draft.place(name), name)


def _overtaken(output: Store) -> StoreError:
    message = f"another run has delivered its results to {output.url}: run this one again, with another --output"
    return StoreError(message)


def _withdraw(files: Files, names: Sequence[str]) -> None:
    for name in names:
        files.remove(name)
    # Or else they might come back with the power.
    for folder in {name.rpartition("/")[0] for name in names}:
        files.settle(folder)


def _check_free(ours: _Ours, output: Store, names: Iterable[str]) -> None:
    _refuse(output, [path for name in (RECORD, *names) for path in _in_the_way(ours, name)])


def _in_the_way(ours: _Ours, name: str) -> Iterator[str]:
    """Give the files of others in the place of one that is to be written, or among the parts of a folder."""
    files, (folder, _, file) = ours.files, name.rpartition("/")
    if files.is_linked(name):
        yield name
    elif folder and is_file(files, folder):
        yield folder
    elif name == RECORD:
        if files.entry(name) and not _OfRecord.parse(files.read(name)):
            yield name
    elif file:
        if (entry := files.entry(name)) and not ours.has(entry):
            yield name
    else:
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
