import re
import subprocess
from base64 import b64decode
from functools import cache
from html.parser import HTMLParser
from importlib import resources
from io import BytesIO

import numpy as np
import polars as pl
import pytest
from PIL import Image

from flows.command_line import ApplyCommand, FitCommand, read_settings
from tasks.core.base.settings import ApplySettings, RunSettings, Settings
from tasks.core.results.record import ApplyRecord, Record
from tasks.core.results.repeat import repeat_command
from tasks.core.results.report import report, would_remove
from tasks.core.results.report_data import (
    Agreement,
    CrossTable,
    DrawnCells,
    Histogram,
    KChoice,
    Markers,
    Quality,
    ReportData,
)
from tests.core.results.test_summary import HOSTILE, record

LARGEST = 3_000_000
VOID = {"meta", "img"}


class Markup(HTMLParser):
    """Tags, their attributes' names and where they point to, and the text between; each tag is closed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, ...]] = []
        self.targets: list[str] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(page)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, *(name for name, _ in attrs)))
        self.targets += [str(value) for name, value in attrs if name in ("href", "src")]
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, *(name for name, _ in attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += f"{data} "


def crossed(row: str, column: str, counts: np.ndarray, word: str = "") -> CrossTable:
    names = [f"{word}{at}" for at in range(counts.shape[1])]
    return CrossTable(row, column, [*range(len(counts))], [None, *names[1:]], counts)


def everything(word: str, cells: int = 60, clusters: int = 3, classes: int = 4) -> ReportData:
    """A report with every section, in which all that may come from elsewhere is this text."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, clusters, cells)
    values = [f"{word}{at}" for at in rng.integers(0, classes, cells)]
    values[::7] = [""] * len(values[::7])
    column = f"column {word}"
    metadata = pl.DataFrame({column: values, "plate": [None, *values[1:]]})
    genes = [f"{word} gene {at}" for at in range(5 * clusters)]
    numbers = {name: rng.random(len(genes)) for name in ("cohens_d", "logfoldchanges", "pct_nz_group")}
    top = pl.DataFrame({"cluster": np.repeat(np.arange(clusters), 5), "gene": genes} | numbers)
    top = top.with_columns(pvals_adj=0.0, pct_nz_reference=1.0)
    counts = rng.integers(0, 40, (clusters, classes))
    schema = {name: [0.1, None, 0.3] for name in ("silhouette", "calinski_harabasz", "davies_bouldin")}
    return ReportData(
        record=record(word),
        cells=DrawnCells(rng.normal(size=(cells, 4)), labels, metadata, 10**6, rng.normal(size=(cells, 2))),
        compositions=[crossed("cluster", column, counts, word), crossed("cluster", "drug", counts[:, :1])],
        choice=KChoice(pl.DataFrame({"k": [5, 10, 20]} | schema), 5),
        agreements=[Agreement(column, 0.5, 0.4, dict.fromkeys(values, 0.3), 0.2), Agreement("plate", 0, 0, {})],
        batches=[crossed(f"batch {word}", column, counts, word)],
        markers=Markers(top, [*range(clusters)], genes, *rng.random((2, clusters, 5 * clusters))),
        quality=Quality(
            [Histogram(f"genes {word}", rng.integers(0, 9, 20), np.linspace(0, 5000, 21), [200.0, 4000.0])],
            {f"cells {word}": 3},
        ),
    )


@cache
def tame() -> Markup:
    return Markup(report(everything("tame")))


@pytest.mark.parametrize(
    "text", [" ".join(HOSTILE), "<script>alert(1)</script> \"'><b onclick=x> e\u0301\u200d \u2028 日本 عربى"]
)
def test_what_came_from_data_is_text_and_nothing_else(text: str) -> None:
    page = report(everything(text))
    markup = Markup(page)
    assert markup.tags == tame().tags
    assert all(target.startswith(("#", "data:image/png;base64,")) for target in markup.targets)
    assert not {"script", "iframe", "link", "object"} & {tag for tag, *_ in markup.tags}
    page.encode()
    assert all(letter.isprintable() or letter == "\n" for letter in page)


def test_a_report_of_much_is_small_and_the_same_each_time() -> None:
    much = everything("Drug of some name ", cells=20_000, clusters=50, classes=379)
    page = report(much)
    assert len(page.encode()) < LARGEST
    assert page == report(much)
    shown = Markup(page).text
    pictures = [source for source in Markup(page).targets if source.startswith("data:")]
    assert len(pictures) == 3 * 3 + 1 + 1
    for source in pictures:
        Image.open(BytesIO(b64decode(source.partition(",")[2]))).verify()
    for told in (
        "20,000 of 1,000,000 cells",
        "368 others",
        "349 other",
        "(empty)",
        "2 BAD CELLS WERE SKIPPED",
        "<1e-300",
    ):
        assert told in shown


def test_a_report_of_very_many_clusters_shows_the_markers_of_the_first() -> None:
    page = report(everything("tame", clusters=400))
    assert len(page.encode()) < LARGEST / 2
    shown = Markup(page).text
    assert "340 more clusters are not shown" in shown
    assert "Cluster 59 " in shown
    assert "Cluster 60 " not in shown


def test_a_report_has_the_sections_that_there_is_data_for() -> None:
    headings = re.compile(r"<h2>([^<]*)</h2>")
    of_any_fit = ["Cluster sizes", "Components", "Skipped data", "Repeat it", "Settings", "Versions", "Cost"]
    assert headings.findall(report(ReportData(record("tame")))) == of_any_fit
    full = headings.findall(report(everything("tame")))
    assert {*full} - {*of_any_fit} == {
        *("Embedding", "Composition", "How good", "Markers"),
        *("Choice of the number of clusters", "Confounded with the batch", "Quality"),
    }


def test_a_report_of_applied_cells_has_their_clusters() -> None:
    base = {name: getattr(record("tame"), name) for name in Record.model_fields}
    applied = ApplyRecord(**base, model={}, clusters={"names": [4, 7], "sizes": [90, 8]})
    assert "91.8 %" in report(ReportData(applied))


@pytest.mark.parametrize(
    ("counts", "told"),
    [
        (100 * np.eye(4, dtype=int), "is nearly the same as plate: a correction by plate would remove most"),
        (np.full((4, 3), 50), "is hardly related to plate: a correction by plate would leave its differences"),
        (np.array([[50, 50, 9], [50, 50, 0]]), "1 of its 3 values are in one plate only: a correction by plate would"),
        (np.array([[90, 10], [20, 80]]), "is partly confounded with plate: a correction by plate would remove part"),
        (np.array([[90], [20]]), "nothing can be said"),
    ],
)
def test_a_report_says_what_a_correction_would_remove(counts: np.ndarray, told: str) -> None:
    assert told in would_remove(crossed("plate", "drug", counts))


@pytest.mark.parametrize(
    "settings",
    [
        Settings(dataset='it\'s a "folder" $HOME `x`;\n#é', samples="all", clusters=3, output="-odd", seed=1),
        Settings(),
        ApplySettings(model="a b", workers=2),
    ],
)
def test_the_command_repeats_the_settings(settings: RunSettings) -> None:
    made = record("tame").model_copy(update={"settings": settings.model_dump(mode="json")})
    applied = isinstance(settings, ApplySettings)
    base = {name: getattr(made, name) for name in Record.model_fields}
    of = ApplyRecord(**base, model={}, clusters={}) if applied else made
    said = subprocess.run(
        ["bash", "-c", f"printf '%s\\0' {repeat_command(of)}"], capture_output=True, check=True
    ).stdout
    words = said.decode().split("\0")[:-1]
    assert words[:2] == ["python", "flows/run.py"]
    given = (
        read_settings(words[3:], ApplyCommand, ApplySettings)
        if applied
        else read_settings(words[2:], FitCommand, Settings)
    )
    assert given == settings


def luminance(colour: str) -> float:
    channels = np.array([int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)])
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def test_figures_on_a_heat_map_can_be_read() -> None:
    css = (resources.files("tasks.core.results") / "templates" / "report.css").read_text()
    shades = re.findall(r"\.q\d\{background:(#\w{6});color:(#\w{3,6})\}", css)
    assert len(shades) == 8
    for shade, ink in shades:
        light, dark = sorted((luminance(shade), luminance("#ffffff" if ink == "#fff" else ink)), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5
