"""Which runs use which results of a store: a mark for each run, by which house-keeping knows what to spare."""

import threading
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from pydantic import Field, ValidationError

from tasks.core.base.errors import StoreError
from tasks.core.base.process import Process, this_process
from tasks.core.base.settings import RunSettings
from tasks.core.storage.store import Reference, Store, objects_of

RUNS = "runs"
_BEAT_SECONDS = 30.0
# A run elsewhere that has not been heard of for so long is dead: of ten signs of life none has come.
_SILENCE_SECONDS = 300.0
# One whose process is seen here may be stopped; or it is over, could not say so, and its process has gone on.
_SILENCE_SECONDS_HERE = 3600.0
# What a calendar can tell.
_LATEST = 2.0**37


class RunMark(Reference):
    """A run as the store remembers it.

    Attributes:
        began: seconds since 1970.
        seen: when it last gave a sign of life.
        process: that it is the work of.
        ended: whether it ended, well or not.
        asked: the settings that tell runs apart.
        folders: of all results that it used and leaves; known once it has ended well.
        flow_run: Prefect's id of it.
        why: it ended without results, where it did.
    """

    began: float = Field(ge=0, lt=_LATEST)
    seen: float = Field(ge=0, lt=_LATEST)
    process: Process
    ended: bool
    asked: dict[str, Any]
    folders: tuple[str, ...] = ()
    flow_run: str = ""
    why: str = ""

    @property
    def is_running(self) -> bool:
        """Whether it is at work: its process is not known to be gone, and it is not silent for too long."""
        if self.ended or self.process.is_gone:
            return False
        silence = _SILENCE_SECONDS_HERE if self.process.is_here else _SILENCE_SECONDS
        return self.since_seen < silence

    @property
    def since_seen(self) -> float:
        """Seconds since it gave a sign of life; by a clock that is wrong, until it will have."""
        return abs(time.time() - self.seen)

    @property
    def state(self) -> str:
        """How it is or how it ended, for people."""
        if self.is_running:
            return "running"
        if not self.ended:
            return "killed"
        return f"failed: {self.why}" if self.why else "ended"


@dataclass
class RunMarker:
    """Writes the mark of one run, and a sign of life in it time and again while it is at work."""

    store: Store
    settings: RunSettings
    flow_run: str = ""
    beat: float = _BEAT_SECONDS
    name: str = field(default_factory=lambda: f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{uuid.uuid4().hex[:6]}")
    began: float = field(default_factory=time.time)
    _over: threading.Event = field(default_factory=threading.Event)
    _writing: threading.Lock = field(default_factory=threading.Lock)

    def begin(self) -> None:
        """Say that the run is at work, and go on saying so."""
        self._write(ended=False)
        threading.Thread(target=self._beat, name=f"heart of {self.name}", daemon=True).start()

    def end(self, results: object) -> None:
        """Say that the run has ended well, and with what results."""
        self._end(folders=folders_of(results))

    def fail(self, why: str) -> None:
        """Say that the run has ended without results."""
        self._end(why=why)

    def _end(self, *, folders: tuple[str, ...] = (), why: str = "") -> None:
        self._over.set()
        with self._writing:
            self._write(ended=True, folders=folders, why=why)

    def _beat(self) -> None:
        while not self._over.wait(self.beat):
            with self._writing, suppress(StoreError):
                if not self._over.is_set():
                    self._write(ended=False)

    def _write(self, *, ended: bool, folders: tuple[str, ...] = (), why: str = "") -> None:
        asked = self.settings.model_dump(mode="json", include={"dataset", "samples", "model", "pca_dim", "clusters"})
        of_run: dict[str, Any] = {"began": self.began, "asked": asked, "flow_run": self.flow_run}
        of_run |= {"seen": time.time(), "process": this_process()}
        mark = RunMark(ended=ended, folders=folders, why=why, **of_run)
        _write_mark(self.store, self.name, mark)


def keep_folders(store: Store, name: str, mark: RunMark, folders: Iterable[str]) -> None:
    """Say of a run that has ended that it leaves no more than some of the results that it used."""
    _write_mark(store, name, mark.model_copy(update={"folders": tuple(folders)}))


def end_mark(store: Store, flow_run: str, why: str) -> None:
    """End the mark of a flow run that could not do so itself."""
    for name, mark in list(marks(store)):
        if mark.flow_run == flow_run and not mark.ended:
            _write_mark(store, name, mark.model_copy(update={"ended": True, "why": why}))


def _write_mark(store: Store, name: str, mark: RunMark) -> None:
    store.files.write(f"{RUNS}/{name}.json", mark.model_dump_json().encode())


def folders_of(results: object) -> tuple[str, ...]:
    """Folders of all objects that references, however deep, point at."""
    return tuple(sorted({ref.folder for ref in objects_of(results)}))


def marks(store: Store) -> Iterator[tuple[str, RunMark]]:
    """Give each run's name and mark, the oldest first."""
    for entry in store.files.whole(RUNS):
        try:
            mark = RunMark.model_validate_json(store.files.read(entry.path) or b"")
        except ValidationError:
            continue
        yield entry.path.removeprefix(f"{RUNS}/").removesuffix(".json"), mark
