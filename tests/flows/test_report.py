"""The report as people see it: in a real browser, on a desktop and on a phone."""

import base64
import re
from pathlib import Path

import pytest

from tests.browser import Browser, browser
from tests.conftest import real_cells
from tests.flows.conftest import Run

SECTIONS = (
    *("Embedding", "Cluster sizes", "Composition", "How good", "Markers", "Choice of the number of clusters"),
    *("Confounded with the batch", "Components", "Quality", "Repeat it", "Settings", "Versions", "Cost"),
)
PHONE, DESKTOP = 390, 1200
MOST_BYTES = 3_000_000


def test_the_report_of_the_atlas_reads_well_wherever_it_is_opened(
    run: Run, tmp_path: Path, screenshots: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Under a name of its own, which stands at the head of the page.
    (tmp_path / "lung-lines").symlink_to(real_cells("mixology-thin"))
    monkeypatch.chdir(tmp_path)
    asked = {"dataset": "lung-lines", "samples": "all", "clusters": "5,10"}
    plain = run(**asked, compare="cell_line_id,plate", layout="umap", output=tmp_path / "plain")
    atlas = run(**asked, recipe="atlas", output=tmp_path / "atlas")
    with browser(tmp_path / "profile") as page:
        for name, ran in {"plain": plain, "atlas": atlas}.items():
            report = ran.output / "report.html"
            assert report.stat().st_size < MOST_BYTES
            assert not [gene for gene in genes_of_dots(report.read_text()) if re.match("MT-|RP[LS][0-9]", gene)]
            keep_maps(report.read_text(), screenshots, name)
            page.open(report.as_uri())
            page.wait_for("Repeat it")
            for width in (DESKTOP, PHONE):
                page.resize(width, 900)
                assert overflow(page) == []
        page.wait_for(*SECTIONS)
        page.screenshot(screenshots / "report.png", 1500)
        page.run("document.getElementById('markers').scrollIntoView()")
        page.screenshot(screenshots / "report-phone.png", 900, PHONE)


def genes_of_dots(page: str) -> list[str]:
    """Whose dots are drawn; plain runs rank none."""
    drawn = re.search(r'<table class="dots".*?</table>', page, re.DOTALL)
    genes = re.findall(r'<th scope="row">([^<]+)</th>', drawn[0]) if drawn else []
    assert len(genes) > 20 or drawn is None
    return genes


def overflow(page: Browser) -> list[str]:
    """What is wider than the window, but for what scrolls by itself."""
    script = """
        const wide = [...document.body.querySelectorAll('*')].filter(e => {
            if (e.getBoundingClientRect().right <= document.documentElement.clientWidth + 1) return false;
            for (let up = e; up !== document.body; up = up.parentElement)
                if (['auto', 'scroll', 'hidden'].includes(getComputedStyle(up).overflowX)) return false;
            return true;
        });
        return wide.map(e => e.outerHTML.slice(0, 100));
    """
    found: list[str] = page.run(script)
    return found


def keep_maps(page: str, folder: Path, name: str) -> None:
    """Leave the maps of the report as files."""
    for column in ("cell_line_id", "plate"):
        tag = re.search(rf"<img[^>]*Cells in UMAP, coloured by {column}[^>]*>", page)
        assert tag is not None
        (picture,) = re.findall(r'src="data:image/png;base64,([^"]+)"', tag[0])
        (folder / f"map-{name}-{column}.png").write_bytes(base64.b64decode(picture))
