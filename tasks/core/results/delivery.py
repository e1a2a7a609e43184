"""Files on their way to the output: made beside it, moved there whole, and described."""

import hashlib
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tasks.core.base.errors import StoreError, first_line
from tasks.core.references.model import Output
from tasks.core.storage.store import Store


def deliver(folder: Path, output: Store) -> tuple[Output, ...]:
    """Move the files of a folder to the output, and describe them."""
    outputs = tuple(_describe(path) for path in sorted(folder.iterdir()))
    for made in outputs:
        output.files.move_in(folder / made.name, made.name)
    return outputs


def _describe(path: Path) -> Output:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Output(name=path.name, size=path.stat().st_size, sha256=digest)


def deliver_page(output: Store, name: str, page: str) -> Output:
    """Write a page of text to the output, and describe it."""
    data = page.encode()
    output.put(name, data)
    return Output(name=name, size=len(data), sha256=hashlib.sha256(data).hexdigest())


@contextmanager
def scratch(output: Store) -> Iterator[Path]:
    """Give a folder for files that are to be moved to the output, removed in the end.

    Raises:
        StoreError: the output cannot be written.
    """
    # Beside the results where they are local, so that moving a file there is one rename.
    beside = output.files.root if output.files.is_local else None
    if beside is not None:
        Path(beside).mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=".results-", dir=beside))
    try:
        yield folder
    except OSError as error:
        if isinstance(error, StoreError):
            raise
        raise StoreError(f"cannot write to {output.url}: {error.strerror or first_line(error)}") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
