"""Outputs by date: `{date}` in the place of an output is the day of its run, and a file above them names the newest."""

from datetime import date
from pathlib import PurePosixPath
from typing import Self

from pydantic import BaseModel, ValidationError

from tasks.core.base.errors import StoreError
from tasks.core.base.settings import RunSettings
from tasks.core.storage.files import Files

_DATE = "{date}"
LATEST = "latest.json"


class _Latest(BaseModel):
    """Which of the outputs in a folder is the newest, by its path from there."""

    output: str

    @classmethod
    def read(cls, files: Files) -> Self | None:
        """Read a file that anybody may have written; None where it is no such file."""
        try:
            found = cls.model_validate_json(files.read(LATEST) or b"")
        except ValidationError:
            return None
        path = PurePosixPath(found.output)
        return None if path.is_absolute() or ".." in path.parts or "\0" in found.output else found


class DatedOutput:
    """The place where a run leaves its results, `{date}` in it being this day.

    Args:
        settings: of the run, as asked for.
        day: of the run.
    """

    def __init__(self, settings: RunSettings, day: date) -> None:
        self.place = settings.output.replace(_DATE, day.isoformat())
        before, dated, _ = settings.output.partition(_DATE)
        above, _, _ = before.rpartition("/")
        self._is_dated = bool(dated)
        self._name = self.place[len(above) :].lstrip("/")
        self._above = Files(above or ("/" if before.startswith("/") else "."), settings.patience, settings.credentials)

    def check(self) -> None:
        """Check that the file which names the newest output can be written.

        Raises:
            StoreError: another file has its name.
        """
        if self._is_dated and self._above.entry(LATEST) and _Latest.read(self._above) is None:
            raise StoreError(
                f"{self._above.locate(LATEST)}, which is to name the newest output, is another file: move it, or "
                "choose another --output"
            )

    def point(self) -> None:
        """Name this output as the newest."""
        if self._is_dated:
            self._above.write(LATEST, _Latest(output=self._name).model_dump_json().encode())


def newest_in(place: str, files: Files) -> str:
    """Give the newest output in a folder of dated ones, or the place itself where it is none."""
    found = _Latest.read(files)
    return f"{place.rstrip('/')}/{found.output}" if found else place
