"""Which runs use which results of a store: a mark for each run, by which house-keeping knows what to spare."""

import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from tasks.core.base.settings import RunSettings
from tasks.core.storage.store import Reference, Store, objects_of

RUNS = "runs"
# A run that has not been heard of for so long was killed: stages and passes are far shorter.
_SILENCE_SECONDS = 24 * 3600.0


class RunMark(Reference):
    """A run as the store remembers it.

    Attributes:
        began: seconds since 1970.
        seen: when it last finished a stage.
        ended: whether it ended, well or not.
        asked: the settings that tell runs apart.
        folders: of all results that it used; known once it has ended well.
        flow_run: Prefect's id of it.
        why: it ended without results, where it did.
    """

    began: float
    seen: float
    ended: bool
    asked: dict[str, Any]
    folders: tuple[str, ...] = ()
    flow_run: str = ""
    why: str = ""

    @property
    def is_running(self) -> bool:
        """Whether it may still be at work."""
        return not self.ended and time.time() - self.seen < _SILENCE_SECONDS


@dataclass
class RunMarker:
    """Writes the mark of one run."""

    store: Store
    settings: RunSettings
    flow_run: str = ""
    name: str = field(default_factory=lambda: f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{uuid.uuid4().hex[:6]}")
    began: float = field(default_factory=time.time)

    def beat(self) -> None:
        """Say that the run is at work."""
        self._write(ended=False)

    def end(self, results: object) -> None:
        """Say that the run has ended well, and with what results."""
        self._write(ended=True, folders=folders_of(results))

    def fail(self, why: str) -> None:
        """Say that the run has ended without results."""
        self._write(ended=True, why=why)

    def _write(self, *, ended: bool, folders: tuple[str, ...] = (), why: str = "") -> None:
        asked = self.settings.model_dump(mode="json", include={"dataset", "samples", "model", "pca_dim", "clusters"})
        of_run: dict[str, Any] = {"began": self.began, "asked": asked, "flow_run": self.flow_run}
        mark = RunMark(seen=time.time(), ended=ended, folders=folders, why=why, **of_run)
        _write_mark(self.store, self.name, mark)


def end_mark(store: Store, flow_run: str, why: str) -> None:
    """End the mark of a flow run that could not do so itself."""
    for name, mark in list(marks(store)):
        if mark.flow_run == flow_run and not mark.ended:
            _write_mark(store, name, mark.model_copy(update={"ended": True, "why": why}))


def _write_mark(store: Store, name: str, mark: RunMark) -> None:
    store.files.write(f"{RUNS}/{name}.json", mark.model_dump_json().encode())


def folders_of(results: object) -> tuple[str, ...]:
    """Folders of all objects that references, however deep, point at."""
    return tuple(sorted({ref.path.rpartition("/")[0] for ref in objects_of(results)}))


def marks(store: Store) -> Iterator[tuple[str, RunMark]]:
    """Give each run's name and mark, the oldest first."""
    for entry in store.files.whole(RUNS):
        try:
            mark = RunMark.model_validate_json(store.files.read(entry.path) or b"")
        except ValidationError:
            continue
        yield entry.path.removeprefix(f"{RUNS}/").removesuffix(".json"), mark
