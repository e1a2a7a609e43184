"""Leases: what several want at once is made once, and whoever dies holds nobody up."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tasks.core.base.process import Process
from tasks.core.base.progress import Progress, heard_by
from tasks.core.storage.files import Files
from tasks.core.storage.lease import LEASES, Holder, Lease
from tasks.core.storage.store import Outcome, Reference, StageKey, Store

ROOT = Path(__file__).resolve().parents[3]
KEY = StageKey(stage="test", version=1, inputs={})
NEVER = 1e6
ELSEWHERE = Process(machine="elsewhere", number=1, started="1")


class Result(Reference):
    number: int


@pytest.fixture
def store(place: str) -> Store:
    return Store(place)


@pytest.fixture
def files(store: Store) -> Files:
    return store.files


def lease(files: Files, silence: float = NEVER) -> Lease:
    return Lease(files, "test", "0", silence)


def leases(files: Files) -> list[str]:
    return [entry.path for entry in files.walk(LEASES)]


def test_what_two_threads_want_at_once_is_made_once(store: Store) -> None:
    waiting = threading.Event()
    news: list[str] = []
    made: list[int] = []
    outcomes: list[Outcome[Result]] = []

    def make() -> Result:
        made.append(len(leases(store.files)))
        assert waiting.wait(60)
        return Result(number=1)

    def hear(step: Progress) -> None:
        news.append(str(step))
        waiting.set()

    def want() -> None:
        with heard_by(hear):
            outcomes.append(store.answer(KEY, Result, make))

    threads = [threading.Thread(target=want) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == [1]
    assert news == ["test: waiting for another run that makes the same"]
    assert [outcome.cached for outcome in outcomes] == [False, True]
    assert outcomes[0].result == outcomes[1].result
    assert leases(store.files) == []


def test_what_processes_want_at_once_is_made_once(place: str, files: Files) -> None:
    program = f"""
import time
from tests.core.storage.test_lease import KEY, Result, Store
def make():
    time.sleep(1.0)
    return Result(number=1)
print(Store({place!r}).answer(KEY, Result, make).cached)
"""
    started = [
        subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(3)
    ]
    assert sorted(process.communicate()[0].strip() for process in started) == ["False", "True", "True"]
    assert leases(files) == []


@contextmanager
def holder_in_a_process(place: str) -> Iterator[subprocess.Popen[str]]:
    program = f"""
import time
from tests.core.storage.test_lease import Files, lease
assert lease(Files({place!r}, 5)).take()
print("held", flush=True)
time.sleep(600)
"""
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


def test_a_holder_that_was_killed_is_followed_without_waiting_for_its_silence(place: str, files: Files) -> None:
    with holder_in_a_process(place) as process:
        next_one = lease(files)
        assert not next_one.take()
        process.kill()
        next_one.wait()
        assert next_one.take()
    next_one.release()
    assert leases(files) == []


@pytest.mark.parametrize("left", [b"", Holder(name="x", sign=3, process=ELSEWHERE).model_dump_json().encode()])
def test_a_holder_that_cannot_be_seen_is_followed_after_its_silence(files: Files, left: bytes) -> None:
    files.write(f"{LEASES}/test-0.json", left)
    first, second = lease(files, silence=0.5), lease(files, silence=0.5)
    assert not first.take()
    for one in (first, second):
        one.wait()
    assert first.take()
    assert not second.take(), "what the second saw dead is alive again"
    first.release()
    assert second.take()
    second.release()


def test_a_holder_gives_signs_of_life(files: Files) -> None:
    held = lease(files, silence=0.4)
    assert held.take()
    seen: set[bytes | None] = set()
    while len(seen) < 3:
        seen.add(files.read(held.path))
        time.sleep(0.05)
    held.release()
    assert leases(files) == []


def test_a_holder_that_was_followed_leaves_the_lease_alone(files: Files) -> None:
    held = lease(files, silence=0.4)
    assert held.take()
    followed = Holder(name="another", sign=0, process=ELSEWHERE).model_dump_json().encode()
    renewing = next(thread for thread in threading.enumerate() if thread.name == f"renews {held.path}")
    while renewing.is_alive():
        files.write(held.path, followed)
        renewing.join(0.05)
    held.release()
    assert files.read(held.path) == followed


def test_an_error_of_the_holder_lets_others_make_it(store: Store) -> None:
    def fail() -> Result:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        store.answer(KEY, Result, fail)
    assert leases(store.files) == []
    assert not store.answer(KEY, Result, lambda: Result(number=1)).cached


def test_a_result_that_was_finished_meanwhile_is_not_made(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    take = Lease.take

    def finish_and_take(self: Lease) -> bool:
        store.finish(KEY, Result(number=1))
        return take(self)

    monkeypatch.setattr(Lease, "take", finish_and_take)
    assert store.answer(KEY, Result, lambda: pytest.fail("made again")).cached
    assert leases(store.files) == []


class NeverExclusive(Files):
    """A store that cannot create a file only where there is none."""

    def create(self, path: str, data: bytes) -> bool:
        return False


def test_a_store_without_exclusive_creation_does_without_leases(tmp_path: Path) -> None:
    files = NeverExclusive(str(tmp_path), 5)
    one, other = lease(files), lease(files)
    assert one.take()
    assert other.take()
    one.release()
    other.release()
    assert leases(files) == []
