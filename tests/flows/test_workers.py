"""What holds in a run's process holds in those that work for it."""

import os
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prefect.blocks.system import Secret
from threadpoolctl import threadpool_info

from flows.engines.engine import engine_of
from tasks.core.base.errors import DataError
from tasks.core.base.progress import Progress, heard_by, report
from tasks.core.base.settings import Settings
from tasks.core.numerics.workers import put_to_work
from tasks.core.references.batches import Batch
from tasks.core.storage.keyring import keyring
from tasks.core.storage.store import Outcome, Store
from tasks.stage import batched, stage

KEY = "AWS_ACCESS_KEY_ID"
SHARED = "of all calls"
# More than goes with each call.
LARGE = "x" * 10**6


def look(shared: str, store: Store) -> tuple[str, str, str | None, int, int]:
    """Tell what a worker finds where it is."""
    report(Progress("test", "look", 1, 2))
    threads = max(pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas")
    key = None if KEY in os.environ else keyring.options("secret/workers")["key"]
    return shared, store.url, key, threads, os.getpid()


def tell_process(_shared: str) -> int:
    time.sleep(0.02)
    return os.getpid()


def wait_for(path: Path) -> bool:
    until = time.monotonic() + 30
    while not path.exists() and time.monotonic() < until:
        time.sleep(0.05)
    return path.exists()


def refuse() -> None:
    raise DataError("row 3 of it is bad")


@pytest.mark.parametrize("value", [SHARED, LARGE], ids=["small", "large"])
def test_workers_know_what_the_run_knows_and_tell_it_what_they_know(
    value: str, tmp_path: Path, prefect_server: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(KEY, raising=False)
    Secret(value={KEY: "a key", "AWS_SECRET_ACCESS_KEY": "a secret"}).save("workers", overwrite=True)
    settings = Settings(engine="dask", workers=1, credentials="secret/workers")
    said: list[Progress] = []
    with heard_by(said.append), engine_of(settings) as made:
        assert made.workers is not None
        with made.workers.share(value) as shared:
            found = made.workers.submit(look, shared, Store.at(str(tmp_path))).result()
        assert found[:4] == (value, str(tmp_path), "a key", 1)
        assert found[4] != os.getpid()
        with pytest.raises(DataError, match=r"^row 3 of it is bad$"):
            made.workers.submit(refuse).result()
        until = time.monotonic() + 10
        while not said and time.monotonic() < until:
            time.sleep(0.01)
    assert said == [Progress("test", "look", 1, 2)]
    assert KEY not in os.environ


def test_a_step_is_done_where_there_is_no_prefect() -> None:
    # Known by what is in it, for this module brings Prefect along.
    def tell(_item: Any) -> Outcome[Any]:
        return Outcome(SimpleNamespace(pid=os.getpid(), has_prefect="prefect" in sys.modules), cached=False)

    with engine_of(Settings(engine="dask", workers=1)) as made, put_to_work(made.workers):
        task: Any = batched(stage(name="look")(tell))
        (found,) = task.fn(Batch([SimpleNamespace(origin="here", is_empty=False)]))
    assert found.pid != os.getpid()
    assert not found.has_prefect


@pytest.mark.parametrize("value", [SHARED, LARGE], ids=["small", "large"])
def test_calls_go_to_all_dask_workers_from_the_first_on(value: str) -> None:
    with engine_of(Settings(engine="dask", workers=2)) as made:
        assert made.workers is not None
        for _ in range(3):
            with made.workers.share(value) as shared:
                calls = [made.workers.submit(tell_process, shared) for _ in range(2)]
                assert len({call.result() for call in calls}) == 2


def test_a_dask_worker_that_is_busy_holds_up_no_other(tmp_path: Path) -> None:
    with engine_of(Settings(engine="dask", workers=2)) as made:
        assert made.workers is not None
        busy = made.workers.submit(wait_for, tmp_path / "go on")
        with made.workers.share(LARGE) as shared:
            made.workers.submit(tell_process, shared).result()
        (tmp_path / "go on").touch()
        assert busy.result()


def test_workers_leave_nothing_among_temporary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Of the processes that work, as well.
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    with engine_of(Settings(engine="dask", workers=1)) as made:
        assert made.workers is not None
        with made.workers.share(LARGE) as shared:
            made.workers.submit(tell_process, shared).result()
        assert list(tmp_path.iterdir())
    assert not list(tmp_path.iterdir())
