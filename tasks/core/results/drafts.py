"""Where the results of a run are made before any of them is delivered: a folder that no other run gets."""

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Self

from tasks.core.base.errors import StoreError, TahoeFlowError, first_line
from tasks.core.storage.store import Reference, Store

# In the output where that is local, so that moving a file there is one rename.
_BESIDE = ".results"
# By it a folder of drafts is known, and whether a run is at work in it.
_LOCK = "tahoe-flow.lock"


class Draft(Reference):
    """A folder of this machine with the results of a run, as far as they are made."""

    folder: str

    def emptied(self) -> Self:
        """Remove what an attempt before has left in it."""
        shutil.rmtree(self.folder)
        Path(self.folder).mkdir()
        return self

    @contextmanager
    def opened(self) -> Iterator[Path]:
        """Give the folder to write to.

        Raises:
            StoreError: it cannot be written.
        """
        with _told_of(Path(self.folder)):
            yield Path(self.folder)


@contextmanager
def drafting(output: Store) -> Iterator[Draft]:
    """Give a run a folder for its results, removed in the end, and the output to itself for as long as that takes.

    What runs that were killed have left there is removed. A lock, which dies with its process, tells them from one
    that is alive; where a shared folder has no locks, nothing is removed, and each run has a folder of its own.

    Raises:
        StoreError: another run is at work on this output, or it cannot be written.
    """
    drafts = _folder_for(output)
    with _told_of(drafts):
        lock, is_alone = _lock(drafts, output)
    with lock:
        with _told_of(drafts):
            if is_alone:
                _clear(drafts)
            folder = tempfile.mkdtemp(dir=drafts)
        try:
            yield Draft(folder=folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            if is_alone:
                with suppress(OSError):
                    # By the lock the next run knows what could not be removed.
                    if [path.name for path in drafts.iterdir()] == [_LOCK]:
                        (drafts / _LOCK).unlink()
                        drafts.rmdir()


def _folder_for(output: Store) -> Path:
    if output.files.is_local:
        return Path(output.files.root) / _BESIDE
    # The same one for each run of this user on this machine into this output.
    digest = hashlib.sha256(output.url.rstrip("/").encode()).hexdigest()
    return Path(tempfile.gettempdir()) / f"tahoe-flow-{os.getuid()}-{digest[:16]}"


def _lock(drafts: Path, output: Store) -> tuple[IO[bytes], bool]:
    """Lock a folder of drafts, and say whether that keeps others out: not every shared folder has locks."""
    drafts.parent.mkdir(parents=True, exist_ok=True)
    while True:
        # A run that ends meanwhile removes folder and lock.
        with suppress(FileNotFoundError):
            drafts.mkdir(0o700, exist_ok=True)
            _check_ours(drafts, output)
            lock = (drafts / _LOCK).open("ab")
            is_alone = _hold(lock, output)
            if not is_alone or os.path.samestat(os.fstat(lock.fileno()), (drafts / _LOCK).stat()):
                return lock, is_alone
            lock.close()


def _hold(lock: IO[bytes], output: Store) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        message = f"another run is at work on {output.url}: wait for its end, or choose another --output"
        raise StoreError(message) from None
    except OSError:
        return False
    return True


def _check_ours(drafts: Path, output: Store) -> None:
    left = {path.name for path in drafts.iterdir()}
    is_ours = not drafts.is_symlink() and (not left or _LOCK in left)
    # Anybody can make a folder among the temporary ones.
    if not is_ours or not (output.files.is_local or drafts.stat().st_uid == os.getuid()):
        raise StoreError(
            f"{drafts} is where a run makes its results, and no run's: move it, or choose another --output"
        )


def _clear(drafts: Path) -> None:
    for left in drafts.iterdir():
        if left.name != _LOCK:
            shutil.rmtree(left, ignore_errors=True)


@contextmanager
def _told_of(folder: Path) -> Iterator[None]:
    try:
        yield
    except TahoeFlowError:
        raise
    except OSError as error:
        raise StoreError(f"cannot write to {folder}: {error.strerror or first_line(error)}") from error
