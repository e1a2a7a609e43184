"""Files on their way to the output: made beside it, moved there whole, and described."""

import hashlib
import json
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError

from tasks.core.base.errors import StoreError, first_line
from tasks.core.references.model import Output
from tasks.core.storage.store import Store

EMBEDDINGS_CSV = "embeddings.csv"
# Folders of parts, each of one kind: who reads a folder takes it for one table.
PARQUET_PARTS, CSV_PARTS = "embeddings", "embeddings-csv"
_SUFFIXES = {PARQUET_PARTS: "parquet", CSV_PARTS: "csv"}
_PART = re.compile(r"part-\d{5,}\.(parquet|csv)")
# All that a run may leave beside parts, in this version or an earlier one.
_OURS = re.compile(
    r"(embeddings|pca_variance|components|clusters|genes|markers|scree|embedding|report|results)"
    r"\.(csv|parquet|png|html|h5ad|zarr\.zip)"
)


def part_name(folder: str, number: int) -> str:
    """Give the place of a part in the output."""
    return f"{folder}/part-{number:05}.{_SUFFIXES[folder]}"


def deliver(folder: Path, output: Store) -> tuple[Output, ...]:
    """Move the files of a folder to the output, in place of all parts that are there, and describe them."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    outputs = tuple(_describe(path, path.relative_to(folder).as_posix()) for path in paths)
    _withdraw_parts(output, {made.name for made in outputs})
    for made in outputs:
        output.files.move_in(folder / made.name, made.name)
    return outputs


def withdraw(output: Store, record: str, made: Iterable[str]) -> None:
    """Remove the results of an earlier run, as its record lists them, that a run did not make anew.

    What has another size than the record says is no longer that result, and stays.
    """
    for listed in _listed(output.files.read(record)):
        is_stale = listed.name not in set(made) and _OURS.fullmatch(listed.name)
        if is_stale and output.files.size(listed.name) == listed.size:
            output.files.remove(listed.name)


def _withdraw_parts(output: Store, made: set[str]) -> None:
    # Of a run that was longer, or that was killed before it left its record.
    for folder in _SUFFIXES:
        for entry in list(output.files.walk(folder)):
            within = entry.path.removeprefix(f"{folder}/")
            if _PART.fullmatch(within) and entry.path not in made:
                output.files.remove(entry.path)


def _listed(record: bytes | None) -> list[Output]:
    try:
        return [Output.model_validate(listed) for listed in json.loads(record or b"{}")["outputs"]]
    except (KeyError, TypeError, ValueError, ValidationError):
        return []


def _describe(path: Path, name: str) -> Output:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Output(name=name, size=path.stat().st_size, sha256=digest)


def deliver_page(output: Store, name: str, page: str) -> Output:
    """Write a page of text to the output, and describe it."""
    data = page.encode()
    output.files.write(name, data)
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
