"""Results in the place of what was there before: whole at every instant, and nothing lost that is not ours."""

import errno
import hashlib
import json
import os
import random
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tasks.core.base.errors import StoreError
from tasks.core.references.model import Output
from tasks.core.results import delivery
from tasks.core.results.delivery import check_free, deliver, find_delivered
from tasks.core.results.drafts import DRAFTS, Draft, held
from tasks.core.results.record import RECORD, RunRecord
from tasks.core.storage.files import Files
from tasks.core.storage.store import Store
from tests.core.results.test_summary import record

LONG = {
    **{"embeddings.csv": "a", "embeddings/part-00000.parquet": "b", "embeddings/part-00001.parquet": "c"},
    **{"genes.csv": "d", "report.html": "e"},
}
SHORT = {"embeddings-csv/part-00000.csv": "f", "embeddings/part-00000.parquet": "g", "report.html": "h"}
FOREIGN = {"notes.csv", "embeddings/notes.txt", "other/part-00000.parquet", "clusters.csv.old"}


CONTENT = "0123456789abcdef" * 4


def leave(output: Store, made: dict[str, str], name: str = "a run", content: str | None = None) -> RunRecord:
    """Deliver files as a run does."""

    def write(folder: Path) -> None:
        for path, text in made.items():
            (folder / path).parent.mkdir(exist_ok=True)
            (folder / path).write_text(f"{text} of {name}")

    with held(output):
        draft = Draft.of(content)
        of_run = record(name).model_copy(update={"content": content})
        return deliver(draft, output, of_run, draft.write(output, write, "all"))


def there(output: Store) -> dict[str, bytes]:
    return {entry.path: output.files.read(entry.path) or b"" for entry in output.files.walk()}


def is_whole(files: Files) -> bool:
    """Whether there is a record, and all that it lists is as it says."""
    read = files.read(RECORD)
    return read is not None and all(
        hashlib.sha256(files.read(made["name"]) or b"").hexdigest() == made["sha256"]
        for made in json.loads(read)["outputs"]
    )


@pytest.fixture
def output(place: str) -> Store:
    return Store(place, patience=5)


@pytest.fixture
def here(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "output"))


def test_a_run_takes_the_place_of_the_one_before_and_of_nothing_else(output: Store) -> None:
    for name in FOREIGN:
        output.files.write(name, b"mine")
    leave(output, LONG)
    assert there(output).keys() == FOREIGN | LONG.keys() | {RECORD}
    made = leave(output, SHORT)
    left = there(output)
    assert left.keys() == FOREIGN | SHORT.keys() | {RECORD}
    assert {left[name] for name in FOREIGN} == {b"mine"}
    assert {listed.name for listed in made.outputs} == SHORT.keys()
    assert json.loads(left[RECORD]) == made.model_dump(mode="json")
    assert is_whole(output.files)


@pytest.mark.parametrize("foreign", [*LONG, "embeddings/part-00005.parquet", "embeddings/mine.parquet", RECORD])
def test_where_files_of_others_are_nothing_is_written(output: Store, foreign: str) -> None:
    output.files.write(foreign, b'{"outputs": []}')
    with pytest.raises(StoreError, match=f"'{foreign}'; move them, or choose another --output"):
        check_free(output, ["embeddings/", *LONG])
    with pytest.raises(StoreError, match="move them"):
        leave(output, LONG)
    assert {name: data for name, data in there(output).items() if not name.startswith(DRAFTS)} == {
        foreign: b'{"outputs": []}'
    }


def test_many_files_of_others_are_told_in_one_line(here: Store) -> None:
    for number in range(30):
        here.files.write(f"embeddings/part-{number:05}.parquet", b"mine")
    with pytest.raises(StoreError, match=r"part-00004.parquet' and 25 more; move") as refused:
        check_free(here, ["embeddings/"])
    assert len(str(refused.value).splitlines()) == 1


@pytest.mark.parametrize("content", [b"e of a Run", b"longer than it was"])
@pytest.mark.parametrize("read_bytes", [0, delivery._READ_BYTES])
def test_a_result_that_was_changed_since_is_its_owner_s(
    output: Store, monkeypatch: pytest.MonkeyPatch, content: bytes, read_bytes: int
) -> None:
    monkeypatch.setattr(delivery, "_READ_BYTES", read_bytes)
    leave(output, LONG)
    for name in ("report.html", "genes.csv"):
        output.files.write(name, content)
    with pytest.raises(StoreError, match=r"changed since: 'report.html'; move them"):
        check_free(output, SHORT)
    output.files.remove("report.html")
    leave(output, SHORT)
    assert there(output).keys() == SHORT.keys() | {RECORD, "genes.csv"}
    assert output.files.read("genes.csv") == content


def test_a_large_result_that_was_replaced_by_an_older_file_is_its_owner_s(
    here: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "_READ_BYTES", 0)
    made = leave(here, LONG)
    (listed,) = (output for output in made.outputs if output.name == "report.html")
    for name in ("report.html", "genes.csv"):
        here.files.write(name, b"x" * listed.size)
        os.utime(here.locate(name), (1, 1))
    with pytest.raises(StoreError, match=r"changed since: 'report.html'; move them"):
        check_free(here, SHORT)
    here.files.remove("report.html")
    leave(here, SHORT)
    assert here.files.read("genes.csv") == b"x" * listed.size


def test_each_file_in_the_way_is_named_once(here: Store) -> None:
    here.files.write("embeddings/part-00000.parquet", b"mine")
    with pytest.raises(StoreError, match=r"since: 'embeddings/part-00000.parquet'; move"):
        check_free(here, [*LONG, "embeddings/"])


@pytest.mark.parametrize("name", ["notes/theirs", "x" * 256, "sub/\u00e9", "x/" * 600 + "x", RECORD])
def test_what_a_record_lists_and_no_run_can_have_left_is_passed_over(here: Store, name: str) -> None:
    here.files.write("notes", b"mine")
    leave(here, LONG)
    written = json.loads(here.files.read(RECORD) or b"")
    written["outputs"] += [{"name": name, "size": 4, "sha256": hashlib.sha256(b"mine").hexdigest()}]
    here.files.write(RECORD, json.dumps(written).encode())
    leave(here, SHORT)
    assert there(here).keys() == {"notes"} | SHORT.keys() | {RECORD}


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOTSUP])
def test_results_are_delivered_where_folders_cannot_be_synced(
    here: Store, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    sync = os.fsync

    def no_folders(file: int) -> None:
        if stat.S_ISDIR(os.fstat(file).st_mode):
            raise OSError(code, os.strerror(code))
        sync(file)

    monkeypatch.setattr("os.fsync", no_folders)
    leave(here, LONG)
    leave(here, SHORT)
    assert is_whole(here.files)


def test_results_are_delivered_where_a_folder_may_not_be_opened(here: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = os.open

    def may_not(path: Any, flags: int, *args: Any, **options: Any) -> int:
        if "dir_fd" not in options and Path(path) == Path(here.url):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return opened(path, flags, *args, **options)

    monkeypatch.setattr("os.open", may_not)
    leave(here, LONG)
    leave(here, SHORT)
    assert is_whole(here.files)


@pytest.mark.parametrize(
    "name", ["../theirs", "/theirs", "sub/../../theirs", "./theirs", "link/theirs", "link", ".", ""]
)
def test_a_record_reaches_nothing_outside_the_output(here: Store, tmp_path: Path, name: str) -> None:
    theirs = tmp_path / "theirs"
    theirs.write_bytes(b"mine")
    leave(here, LONG)
    (tmp_path / "output" / "link").symlink_to(tmp_path if name == "link/theirs" else theirs)
    if name == "/theirs":
        name = str(theirs)
    written = json.loads(here.files.read(RECORD) or b"")
    written["outputs"] += [{"name": name, "size": 4, "sha256": hashlib.sha256(b"mine").hexdigest()}]
    here.files.write(RECORD, json.dumps(written).encode())
    leave(here, SHORT)
    assert theirs.read_bytes() == b"mine"
    assert (tmp_path / "output" / "link").is_symlink()


@pytest.mark.parametrize("name", ["report.html", "embeddings"])
def test_a_link_in_the_way_is_not_followed(here: Store, tmp_path: Path, name: str) -> None:
    (tmp_path / "theirs").mkdir()
    (tmp_path / "output").mkdir()
    (tmp_path / "output" / name).symlink_to(tmp_path / "theirs" / name)
    with pytest.raises(StoreError, match=f"'{name}/?'; move them"):
        check_free(here, ["embeddings/", "report.html"])
    with pytest.raises(StoreError, match=f"'{name}[/']"):
        leave(here, LONG)
    assert list((tmp_path / "theirs").iterdir()) == []


class KilledError(BaseException):
    pass


class Dying(Files):
    """Files whose owner is killed at one of the calls that change them: just before it, or just after."""

    def __init__(self, url: str, at: float = float("inf")) -> None:
        super().__init__(url, patience=5)
        self.at = at
        self.calls = 0.0

    def move(self, path: str, to: str) -> None:
        self._call(lambda: super(Dying, self).move(path, to))

    def move_in(self, local: Path, path: str) -> None:
        self._call(lambda: super(Dying, self).move_in(local, path))

    def remove(self, path: str) -> None:
        self._call(lambda: super(Dying, self).remove(path))

    def write(self, path: str, data: bytes | memoryview) -> None:
        self._call(lambda: super(Dying, self).write(path, data))

    def _call(self, function: Callable[[], None]) -> None:
        self.calls += 1
        for moment in (-0.5, 0.0):
            if self.calls + moment >= self.at:
                raise KilledError
            if not moment:
                return
            function()


def moments(output: Store) -> Iterator[float]:
    """Every moment at which a delivery of SHORT in the place of LONG may be killed."""
    output.files = counted = Dying(output.url)
    leave(output, LONG)
    before = counted.calls
    leave(output, SHORT)
    yield from (at / 2 for at in range(1, int(2 * (counted.calls - before)) + 1))


def test_a_delivery_that_is_killed_at_any_moment_is_made_whole_by_the_next(here: Store, tmp_path: Path) -> None:
    tried = list(moments(Store(str(tmp_path / "counted"))))
    assert len(tried) > 2 * (2 * len(SHORT) + len(LONG.keys() - SHORT.keys()))
    for at in tried:
        for after in (LONG, SHORT, {"report.html": "i"}):
            output = Store(str(tmp_path / f"{at}-{after.keys()}"))
            for name in FOREIGN:
                output.files.write(name, b"mine")
            leave(output, LONG, "the first")
            output.files = Dying(output.url, at)
            with pytest.raises(KilledError):
                leave(output, SHORT, "the second")
            output.files = Files(output.url, patience=5)
            assert is_whole(output.files) or output.files.size(RECORD) is None
            # A second one that is killed, on top of the first.
            output.files = Dying(output.url, at)
            with suppress(KilledError):
                leave(output, {"embeddings.csv": "x", "history.png": "y"} | after, "the third")
            output.files = Files(output.url, patience=5)
            check_free(output, after)
            leave(output, after, "the last")
            assert is_whole(output.files)
            assert there(output).keys() == FOREIGN | after.keys() | {RECORD}
            assert {output.files.read(name) for name in FOREIGN} == {b"mine"}


def test_who_reads_while_runs_deliver_and_are_killed_sees_whole_results(here: Store) -> None:
    rng, done, seen = random.Random(0), threading.Event(), [0]
    torn: list[str] = []

    def watch() -> None:
        files = Files(here.url, patience=5)
        while not done.is_set():
            before = files.read(RECORD)
            whole = before is not None and is_whole(files)
            # What is read in several steps is one thing if the record has stood all the while.
            if before is not None and files.read(RECORD) == before:
                seen[0] += 1
                torn.extend([] if whole else [before.decode()])

    watching = threading.Thread(target=watch)
    watching.start()
    for number in range(150):
        here.files = Dying(here.url, rng.choice([float("inf"), rng.randrange(1, 24) / 2]))
        try:
            leave(here, rng.choice([LONG, SHORT]), f"run {number}")
        except KilledError:
            continue
    done.set()
    watching.join()
    assert not torn
    assert seen[0] > 10


@pytest.fixture
def no_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """As between two machines."""

    def fail(*_: Any) -> None:
        raise OSError(38, os.strerror(38))

    monkeypatch.setattr("fcntl.flock", fail)
    monkeypatch.setattr("os.fsync", lambda _: None)


def test_of_two_that_deliver_at_once_the_one_that_is_overtaken_says_so(output: Store, no_locks: None) -> None:
    leave(output, LONG)
    files = output.files

    class Overtaken(Files):
        def move(self, path: str, to: str) -> None:
            super().move(path, to)
            if to == "embeddings/part-00000.parquet":
                leave(Store(self.url), LONG, "another")

    output.files = Overtaken(output.url, patience=5)
    with pytest.raises(StoreError, match="another run has delivered its results to"):
        leave(output, SHORT)
    assert is_whole(files)
    output.files = files
    leave(output, SHORT)
    assert is_whole(files)


def test_a_second_run_into_one_output_is_refused_while_the_first_is_at_work(here: Store) -> None:
    with held(here):
        with pytest.raises(StoreError, match=r"another run is at work on .*: wait for its end, or choose another"):
            leave(Store(here.url), LONG)
        assert there(here).keys() == {f"{DRAFTS}/tahoe-flow.lock"}
    leave(here, LONG)
    assert there(here).keys() == LONG.keys() | {RECORD}


def test_what_a_run_has_made_is_found_by_the_next_one_that_makes_the_same(output: Store) -> None:
    draft = Draft.of(CONTENT)

    def write(folder: Path) -> None:
        (folder / "report.html").write_text("whole")

    def crash() -> None:
        with held(output):
            made.extend(draft.write(output, write, "report"))
            raise KilledError

    made: list[Output] = []
    with pytest.raises(KilledError):
        crash()
    with held(output):
        assert list(draft.find(output, "report")) == made
        assert not draft.find(output, "another")
        assert not Draft.of("f" * 64).find(output, "report")
        output.files.write(draft.place("report.html"), b"half")
        assert not draft.find(output, "report")
        listed = {"outputs": [{"name": "../../theirs", "size": 4, "sha256": ""}]}
        output.files.write("theirs", b"mine")
        output.files.write(draft.place("report.json"), json.dumps(listed).encode())
        assert not draft.find(output, "report")
        output.files.remove("theirs")
    leave(output, SHORT)
    assert there(output).keys() == SHORT.keys() | {RECORD}


def test_what_is_delivered_is_found_by_its_content_and_a_draft_of_it_cleared(output: Store) -> None:
    made = leave(output, LONG, content=CONTENT)
    output.files.write(Draft.of(CONTENT).place("journal.json"), b"")
    output.files.write(f"{DRAFTS}/tahoe-flow.lock", b"")
    assert not find_delivered(output, None)
    assert not find_delivered(output, "f" * 64)
    with held(output):
        assert find_delivered(output, CONTENT) == made.outputs
    assert there(output).keys() == LONG.keys() | {RECORD}
    output.files.write("genes.csv", b"changed")
    assert not find_delivered(output, CONTENT)


KILLED = """
import os, sys
from pathlib import Path
from tasks.core.results.drafts import Draft, held
from tasks.core.storage.store import Store
def write(folder):
    (folder / "report.html").write_text("half")
    if sys.argv[2:]:
        os.kill(os.getpid(), 9)
with held(Store(sys.argv[1])):
    Draft.of(None).write(Store(sys.argv[1]), write)
    os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize("is_amid", [(), ("amid",)])
def test_what_a_killed_run_was_making_is_cleared_by_the_next_one(here: Store, is_amid: tuple[str, ...]) -> None:
    killed = subprocess.run([sys.executable, "-c", KILLED, here.url, *is_amid], check=False)
    assert killed.returncode == -9
    assert any(name.endswith("report.html") for name in there(here))
    leave(here, SHORT)
    assert there(here).keys() == SHORT.keys() | {RECORD}


def test_a_draft_that_cannot_be_removed_bars_no_later_run(here: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as context:
        context.setattr("shutil.rmtree", lambda *_, **__: None)
        leave(here, LONG)
    assert list(Path(here.url, ".results").iterdir())
    leave(here, SHORT)
    assert there(here).keys() == SHORT.keys() | {RECORD}


@pytest.mark.parametrize("kind", ["folder", "link", "file"])
def test_a_folder_of_the_name_of_ours_is_left_alone(here: Store, tmp_path: Path, kind: str) -> None:
    theirs = tmp_path / "output" / ".results"
    theirs.parent.mkdir()
    if kind == "folder":
        (theirs / "2024").mkdir(parents=True)
        (theirs / "2024" / "mine").write_text("mine")
    elif kind == "link":
        (tmp_path / "elsewhere").mkdir()
        theirs.symlink_to(tmp_path / "elsewhere")
    else:
        theirs.write_text("mine")
    with pytest.raises(StoreError, match=r"\.results"):
        leave(here, LONG)
    assert os.path.lexists(theirs)
    assert there(here).keys() <= {".results", ".results/2024/mine"}


@pytest.mark.usefixtures("no_locks")
def test_where_there_are_no_locks_the_one_that_delivers_first_removes_the_drafts_of_others(here: Store) -> None:
    with held(here):
        draft = Draft.of(None)
        made = draft.write(here, lambda folder: Path(folder, "report.html").touch())
        leave(Store(here.url), LONG)
        with pytest.raises(StoreError, match="another run has delivered its results to"):
            deliver(draft, here, record("late"), made)
    assert {name for name in there(here) if not name.startswith(DRAFTS)} == LONG.keys() | {RECORD}
    assert is_whole(here.files)
    leave(here, SHORT)
    assert is_whole(here.files)
