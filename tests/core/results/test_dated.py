"""Outputs by date, and the file that names the newest."""

from datetime import date
from pathlib import Path

import pytest

from tasks.core.base.errors import StoreError
from tasks.core.base.settings import Settings
from tasks.core.results.dated import LATEST, DatedOutput, newest_in
from tasks.core.storage.files import Files

DAY = date(2026, 11, 27)


@pytest.mark.parametrize(
    ("asked", "place", "above"),
    [
        ("results", "results", None),
        ("results/{date}", "results/2026-11-27", "results"),
        ("results/of-{date}/nightly", "results/of-2026-11-27/nightly", "results"),
        ("{date}", "2026-11-27", "."),
    ],
)
def test_the_newest_is_found_from_the_folder_above(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: str, place: str, above: str | None
) -> None:
    monkeypatch.chdir(tmp_path)
    output = DatedOutput(Settings(output=asked), DAY)
    output.check()
    output.point()
    assert output.place == place
    assert [str(path.parent) for path in Path().rglob(LATEST)] == ([] if above is None else [above])
    if above is not None:
        assert Path(newest_in(above, Files(above, 1))) == Path(place)
        # Again, and on another day.
        output.check()
        DatedOutput(Settings(output=asked), DAY.replace(day=28)).point()
        assert newest_in(above, Files(above, 1)).endswith(place.replace("27", "28"))


def test_a_file_of_others_is_named_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / LATEST).write_text("mine")
    with pytest.raises(StoreError, match=r"latest\.json, which is to name the newest output, is another file"):
        DatedOutput(Settings(output=f"{tmp_path}/{{date}}"), DAY).check()
    assert (tmp_path / LATEST).read_text() == "mine"


@pytest.mark.parametrize("told", ["/etc", "../elsewhere", "a/../../b", "a\\u0000b"])
def test_it_leads_nowhere_else(tmp_path: Path, told: str) -> None:
    (tmp_path / LATEST).write_text(f'{{"output": "{told}"}}')
    assert newest_in(str(tmp_path), Files(str(tmp_path), 1)) == str(tmp_path)
