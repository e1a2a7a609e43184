"""Drafts: folders `.results/<name>/` of an output, in which the results of a run are made before any is delivered.

They are of the output itself, so that a large part goes up once, as soon as it is made, and a run that makes the same
after a crash finds it there. A marker tells the folder of drafts from other people's.
"""

import errno
import hashlib
import re
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Self

from filelock import FileLock, Timeout
from pydantic import BaseModel, Field, ValidationError

from tasks.core.base.errors import StoreError, TahoeFlowError, first_line
from tasks.core.references.model import Output
from tasks.core.storage.files import Files
from tasks.core.storage.store import Reference, Store

DRAFTS = ".results"
# On a local disk a run that is at work has it locked.
_MARKER = f"{DRAFTS}/tahoe-flow.lock"
# Of a delivery under way: what was in the output, and what is to come.
JOURNAL = "journal.json"
_DRAFT = re.compile(rf"{re.escape(DRAFTS)}/([0-9a-f]{{32}})/.+")
# Of a file of the results, in a folder or in none.
_NAME = re.compile(r"([A-Za-z][\w-]{0,60}/)?[A-Za-z][\w.-]{0,60}", re.ASCII)
_NO_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK, errno.EINVAL)


class Listing(BaseModel):
    """What lists files of this project; anybody may have written it."""

    outputs: tuple[Output, ...]

    @classmethod
    def parse(cls, data: bytes | None) -> Self | None:
        """Read a listing; None where it is none."""
        try:
            return cls.model_validate_json(data or b"")
        except ValidationError:
            return None


class Draft(Reference):
    """A folder of an output in which the results of a run are made.

    Attributes:
        name: the same where the results are to be the same.
    """

    name: str = Field(pattern="^[0-9a-f]{32}$")

    @classmethod
    def of(cls, content: str | None) -> Self:
        """Give the draft of results of this content, a digest; of unknown content, one that no other run finds."""
        return cls(name=content[:32] if content else uuid.uuid4().hex)

    def place(self, name: str) -> str:
        """Give the place of a file in the output, as long as it is not delivered."""
        return f"{DRAFTS}/{self.name}/{name}"

    def find(self, output: Store, step: str) -> tuple[Output, ...]:
        """Give the files that a step has left here, if all are whole; none where they are not."""
        found = Listing.parse(output.files.read(self.place(f"{step}.json")))
        outputs: tuple[Output, ...] = found.outputs if found else ()
        are_whole = all(
            may_be_result(made.name) and output.files.size(self.place(made.name)) == made.size for made in outputs
        )
        return outputs if are_whole else ()

    def write(self, output: Store, write: Callable[[Path], None], step: str | None = None) -> tuple[Output, ...]:
        """Have files written to a folder of this machine, move them here, and give their names, sizes and digests.

        Args:
            output: where the draft is.
            write: writes them to the folder that it is given.
            step: name under which `find` finds them.

        Raises:
            StoreError: they cannot be written.
        """
        files, here = output.files, Path(output.locate(self.place("")))
        try:
            if files.is_local:
                here.mkdir(parents=True, exist_ok=True)
            with TemporaryDirectory(dir=here if files.is_local else None, prefix="tahoe-flow-") as folder:
                write(Path(folder))
                made = describe(Path(folder))
                for one in made:
                    files.move_in(Path(folder, one.name), self.place(one.name))
        except TahoeFlowError:
            raise
        except OSError as error:
            raise StoreError(f"cannot write results to {output.url}: {error.strerror or first_line(error)}") from error
        if step:
            files.write(self.place(f"{step}.json"), Listing(outputs=made).model_dump_json().encode())
        return made


@contextmanager
def held(output: Store) -> Iterator[None]:
    """Keep other runs of this machine out of an output, where its disk has locks; clear its drafts in the end.

    Those of a run that failed stay: the next one finds in them what is made.

    Raises:
        StoreError: another run is at work on this output, or it cannot be written.
    """
    files = output.files
    _check_ours(output)
    if not files.is_local:
        # Nothing tells a run that is at work from one that was killed.
        files.write(_MARKER, b"")
    with _lock(output) if files.is_local else nullcontext(False) as is_alone:
        try:
            yield
            if is_alone:
                remove_drafts(files, drafts(files))
        finally:
            with suppress(StoreError):
                if [entry.path for entry in files.walk(DRAFTS)] == [_MARKER]:
                    files.remove(_MARKER)
                    files.remove_emptied(DRAFTS)


def describe(folder: Path) -> tuple[Output, ...]:
    """Give the name, size and digest of each file of a folder, in order of their names."""
    made = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        made.append(Output(name=path.relative_to(folder).as_posix(), size=path.stat().st_size, sha256=digest))
    return tuple(made)


def drafts(files: Files) -> set[str]:
    """Give the names of all drafts in an output."""
    paths = (entry.path for entry in (files.walk(DRAFTS) if not is_file(files, DRAFTS) else ()))
    return {found[1] for path in paths if (found := _DRAFT.fullmatch(path))}


def remove_drafts(files: Files, names: Iterable[str]) -> None:
    """Remove drafts of these names with all that is in them."""
    for name in names:
        folder = f"{DRAFTS}/{name}"
        # First what tells its run that it has been overtaken.
        files.remove(f"{folder}/{JOURNAL}")
        if files.is_local:
            shutil.rmtree(files.locate(folder), ignore_errors=True)
        else:
            for entry in files.walk(folder):
                files.remove(entry.path)


@contextmanager
def _lock(output: Store) -> Iterator[bool]:
    """Lock a local folder of drafts, and say whether that keeps others out: not every shared folder has locks."""
    marker = Path(output.locate(_MARKER))
    lock = FileLock(marker, blocking=False, fallback_to_soft=False)
    try:
        marker.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        message = f"another run is at work on {output.url}: wait for its end, or choose another --output"
        raise StoreError(message) from None
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise StoreError(f"cannot write {marker}: {error.strerror or first_line(error)}") from error
    try:
        yield lock.is_locked
    finally:
        lock.release()


def _check_ours(output: Store) -> None:
    files = output.files
    # Two runs may begin at once, and the marker be there by now.
    is_taken = files.size(_MARKER) is None and any(files.walk(DRAFTS)) and files.size(_MARKER) is None
    if is_taken or files.is_linked(DRAFTS) or is_file(files, DRAFTS):
        raise StoreError(
            f"{output.locate(DRAFTS)} is where a run makes its results, and no run's: move it, or choose another "
            "--output"
        )


def may_be_result(name: str) -> bool:
    """Whether a file of the results can have this name, whoever lists it."""
    return _NAME.fullmatch(name) is not None


def is_file(files: Files, folder: str) -> bool:
    """Whether a file is in the place of a local folder."""
    return files.is_local and Path(files.locate(folder)).is_file()
