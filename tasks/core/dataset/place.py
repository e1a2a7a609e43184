"""Where a dataset lies, on the Hub, in a folder or under a prefix on S3: its files, each by its literal name."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import fsspec
from huggingface_hub import HfApi, constants
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

from tasks.core.base.errors import SourceError
from tasks.core.base.paths import absolute
from tasks.core.dataset.hub_waits import keep_waits
from tasks.core.dataset.reading import OFFLINE, translated
from tasks.core.storage.files import filesystem_of
from tasks.core.storage.keyring import keyring

GENES_TABLE = "gene_metadata"
_SHARDS, _TABLES = "data", "metadata"
_LAYOUT = f"a dataset has its cells in {_SHARDS}/train-*.parquet and its genes in {_TABLES}/{GENES_TABLE}.parquet"
_SHARD = re.compile(r"train-(?P<number>\d+)?.*\.parquet")
# Row groups are read one by one: a larger block would fetch half of the next one as well.
_BLOCK_BYTES = 1 << 16
_TIMEOUT_SECONDS = 20.0
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_ON_THE_HUB = re.compile(
    r"datasets/(?P<id>[\w.-]+/[\w.-]+)(@(?P<at>[^/]+)|/(tree|blob|resolve)/(?P<revision>[^/]+))?(/(?P<path>.*))?"
)
_OFFLINE_BY = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
# RFC 8089's forms of a folder of this machine.
_FILE = re.compile("file:(//(localhost)?)?(?P<path>/(?!/).*)", re.IGNORECASE | re.DOTALL)
_SCHEME = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]+):/")
_PARTS = re.compile(rf".*\.parquet|README\.md|{_SHARDS}|{_TABLES}")


@dataclass(frozen=True)
class Place:
    """A dataset's place.

    Attributes:
        name: id on the Hub, absolute path of a folder, or URL on S3 without a slash at its end.
        revision: on the Hub, a commit once `resolve` has made it one; None elsewhere.
        credentials: name of the Prefect block with those for S3; None for those that AWS's own tools find.
    """

    name: str
    revision: str | None = None
    credentials: str | None = None

    @property
    def is_local(self) -> bool:
        """Whether it is a folder."""
        return Path(self.name).is_absolute()

    @property
    def is_on_hub(self) -> bool:
        """Whether it is on the Hub, where what a commit holds never changes."""
        return not self.is_local and not self.name.startswith("s3://")

    def names(self, folder: str) -> list[str]:
        """Names of what is in one of its folders, in order; none where there is no such folder."""
        with translated(self.name, f"the list of its files in '{folder}'"):
            try:
                found = self._fs.ls(self._path(folder), detail=False)
            except (FileNotFoundError, NotADirectoryError):
                return []
        return sorted(path.rpartition("/")[2] for path in found)

    def version(self, name: str) -> str:
        """Give what is another for another content of a file, as far as its file system knows."""
        if self.is_local:
            now = Path(self._path(name)).stat()
            # A file put in another's place may have all else in common: the time of this change is nobody's to set.
            return f"{now.st_size} {now.st_mtime_ns} {now.st_ctime_ns}"
        info = self._fs.info(self._path(name))
        return f"{info['size']} {info.get('blob_id') or info.get('ETag') or info['mtime']}"

    @contextmanager
    def open(self, name: str) -> Iterator[Any]:
        """Open a file, by its path within the dataset, to read it.

        Raises:
            FileNotFoundError: there is none.
        """
        with self._fs.open(self._path(name), "rb", block_size=_BLOCK_BYTES) as file:
            yield file

    @property
    def _fs(self) -> Any:
        # By the methods of a file system paths are literal; by URL, fsspec would read `::` as a chain of them.
        if not self.is_on_hub:
            return _file_system(self.name, self.credentials, keyring.changes(self.credentials))
        keep_waits()
        return fsspec.filesystem("hf")

    def _path(self, name: str) -> str:
        root = f"datasets/{self.name}@{self.revision}" if self.is_on_hub else self.name.removeprefix("s3://")
        return f"{root}/{name}"


# Each connects anew; the keys of one that is kept may have been renewed since.
@lru_cache(maxsize=8)
def _file_system(name: str, credentials: str | None, changes: int) -> Any:  # noqa: ARG001
    return filesystem_of(name, credentials)


def find_place(dataset: str, revision: str | None = None) -> Place:
    """Say which place is meant by what a person gives as a dataset, without a look at any network.

    Args:
        dataset: a folder, an id on the Hub, its address there, or a URL on S3.
        revision: on the Hub.

    Raises:
        SourceError: it is none of these, or a part of a dataset; tells what to give.
    """
    if re.match("s3a?:", dataset, re.IGNORECASE):
        return _prefix(dataset)
    scheme = (_SCHEME.match(dataset) or {"scheme": ""})["scheme"]
    if scheme.lower() == "file":
        return _of_url(dataset)
    if not scheme and (dataset.startswith("~") or _exists(dataset)):
        return _folder(dataset)
    if scheme or _HUB_ID.fullmatch(dataset) or dataset.startswith("datasets/"):
        return _hub(dataset, revision)
    raise SourceError(f"there is no folder '{dataset}', and it is no id on the Hub; {OFFLINE}")


def resolve(dataset: str, revision: str | None, credentials: str | None) -> Place:
    """Say which place is meant, on the Hub at the commit that the revision stands for now.

    Raises:
        SourceError: there is no such folder, dataset or revision.
        UnreachableError: the Hub does not answer.
    """
    place = replace(find_place(dataset, revision), credentials=credentials)
    if not place.is_on_hub:
        return place
    if constants.is_offline_mode():
        set_ones = [name for name in _OFFLINE_BY if os.environ.get(name)]
        raise SourceError(
            f"{' and '.join(set_ones)} says to stay offline, and '{place.name}' is on the Hub: unset it; {OFFLINE}"
        )
    keep_waits()
    with translated(place.name, "the Hub's description"):
        try:
            found = HfApi().dataset_info(place.name, revision=place.revision, timeout=_TIMEOUT_SECONDS)
        except RevisionNotFoundError as error:
            raise SourceError(f"'{place.name}' has no revision '{place.revision}' on the Hub") from error
        except GatedRepoError as error:
            raise SourceError(
                f"'{place.name}' is gated: ask for access at {constants.ENDPOINT}/datasets/{place.name}, then give "
                "the token of who has it in HF_TOKEN, or by 'hf auth login'"
            ) from error
        except RepositoryNotFoundError as error:
            raise SourceError(
                f"the Hub has no dataset '{place.name}', or it is private and needs the token of who may read it in "
                f"HF_TOKEN, or by 'hf auth login'; {OFFLINE}"
            ) from error
    return replace(place, revision=found.sha)


def shard_names(place: Place) -> tuple[str, ...]:
    """Path of every shard of cells within its dataset, in stream order.

    Raises:
        SourceError: there are none, or two of one number.
    """
    found = place.names(_SHARDS)
    for name, _ in _shards(found):
        _check_name(name, "the shard")
    numbers: dict[int, str] = {}
    for name, number in _shards(found):
        first = numbers.setdefault(number, name) if number is not None else name
        if first != name:
            raise SourceError(
                f"'{place.name}' has two shards of number {number}, {_SHARDS}/{first} and {_SHARDS}/{name}: "
                "take the one away that is a second copy"
            )
    if not _shards(found):
        above, _, last = place.name.rpartition("/")
        hint = f"give '{above}'" if last in (_SHARDS, _TABLES) else _LAYOUT
        raise SourceError(f"'{place.name}' has no shards of cells: {hint}")
    return tuple(f"{_SHARDS}/{name}" for name, _ in _shards(found))


def table_name(table: str) -> str:
    """Path of one of a dataset's own tables within it."""
    return f"{_TABLES}/{table}.parquet"


def _shards(names: list[str]) -> list[tuple[str, int | None]]:
    """Which names are of shards, and their numbers as far as they have one."""
    matches = filter(None, map(_SHARD.fullmatch, names))
    return [(match[0], int(match["number"]) if match["number"] else None) for match in matches]


def _exists(path: str) -> bool:
    # A Path raises for what no file can be named, and for what may not be looked at.
    return os.path.exists(path)  # noqa: PTH110


def _of_url(given: str) -> Place:
    found = _FILE.fullmatch(given)
    if found is None:
        raise SourceError(f"'{given}' is no folder of this machine: give its path, or file:///path")
    path = found["path"]
    return _folder(path if _exists(path) else unquote(path))


def _check_name(name: str, what: str) -> None:
    # Python keeps what is no UTF-8 in a way that no plan, log or table can hold.
    try:
        name.encode()
    except UnicodeEncodeError as error:
        shown = name.encode(errors="backslashreplace").decode()
        raise SourceError(f"'{shown}' is not UTF-8: give {what} another name, or a link to it") from error


def _folder(given: str) -> Place:
    try:
        path = absolute(given)
    except RuntimeError as error:
        raise SourceError(f"'{given}' is in a home folder that is not known: give the whole path") from error
    _check_name(str(path), "the folder")
    if not _exists(str(path)):
        raise SourceError(f"there is no folder '{given}'; {OFFLINE}")
    if path.is_file():
        above = path.parent.parent if path.parent.name in (_SHARDS, _TABLES) else path.parent
        raise SourceError(f"'{given}' is a file: give the folder of the whole dataset, '{above}'")
    return Place(str(path))


def _prefix(given: str) -> Place:
    root = given.partition(":")[2].strip("/")
    above, _, last = root.rpartition("/")
    if not given.startswith("s3://") or not root:
        raise SourceError(f"'{given}' is no URL on S3: give 's3://{root or 'bucket/folder'}'")
    if re.fullmatch(r".*\.parquet|README\.md", last):
        whole = above.removesuffix(f"/{_SHARDS}").removesuffix(f"/{_TABLES}")
        raise SourceError(f"'{given}' is a file: give the folder of the whole dataset, 's3://{whole}'")
    return Place(f"s3://{root}")


def _hub(given: str, revision: str | None) -> Place:
    if _HUB_ID.fullmatch(given):
        return Place(given, revision)
    parts = urlsplit(given)
    hosts = {"huggingface.co", "www.huggingface.co", "hf.co", urlsplit(constants.ENDPOINT).netloc}
    if parts.scheme == "hf":
        path = given.removeprefix("hf://")
    elif parts.scheme in ("http", "https") and parts.netloc in hosts:
        path = parts.path.lstrip("/")
    else:
        path = given if not parts.scheme else ""
    found = _ON_THE_HUB.fullmatch(path.rstrip("/"))
    if found is None:
        raise SourceError(
            f"'{given}' is no dataset: give an id on the Hub such as tahoebio/Tahoe-100M, a folder, or s3://bucket/folder"
        )
    named = unquote(found["at"] or found["revision"] or "") or None
    if revision is not None and named not in (None, revision):
        raise SourceError(f"'{given}' is of revision '{named}', and --revision says '{revision}': give one of them")
    if any(_PARTS.fullmatch(part) for part in (found["path"] or "").split("/")):
        raise SourceError(f"'{given}' is a part of a dataset: give the id of the whole, {found['id']}")
    return Place(found["id"], named or revision)
