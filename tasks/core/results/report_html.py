"""Parts of a static page. Text becomes `Html` in here alone, escaped, so that nothing from data is ever markup."""

import html
from base64 import b64encode
from collections.abc import Iterable, Sequence
from typing import NewType

from tasks.core.results.report_style import STYLE
from tasks.core.results.summary import one_line

Html = NewType("Html", str)
MOST_ROWS = 50
# Should anything slip through all the same: no script runs, nothing is fetched.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def text(value: object) -> Html:
    """Escape a value as one line of text; what is not known is a dash, and what shows nothing is said to."""
    return Html("&ndash;" if value is None else html.escape(one_line(value)) or "(empty)")


def verbatim(value: str) -> Html:
    """Escape a text of lines as it stands; what cannot be seen is shown as a mark."""
    seen = (letter if letter.isprintable() or letter == "\n" else "\ufffd" for letter in value)
    return Html(html.escape("".join(seen)))


def join(parts: Iterable[Html]) -> Html:
    """Put parts below each other."""
    return Html("\n".join(parts))


def paragraph(value: object) -> Html:
    """Make a paragraph of text."""
    return Html(f"<p>{text(value)}</p>")


def bullets(values: Iterable[object]) -> Html:
    """Make a list of texts."""
    return Html(f"<ul>{''.join(f'<li>{text(value)}</li>' for value in values)}</ul>")


def section(title: str, *parts: Html) -> tuple[str, Html]:
    """Make a section with its heading; the title names it in the list of contents as well."""
    return title, Html(f'<section id="{_anchor(title)}"><h2>{text(title)}</h2>\n{join(parts)}</section>')


def subsection(title: object, *parts: Html) -> Html:
    """Make a part of a section with its own heading."""
    return Html(f"<div><h3>{text(title)}</h3>\n{join(parts)}</div>")


def side_by_side(parts: Iterable[Html]) -> Html:
    """Put narrow parts beside each other where the page is wide."""
    return Html(f'<div class="cols">{join(parts)}</div>')


def grid(parts: Iterable[Html]) -> Html:
    """Put parts in as many columns of one width as there is room for."""
    return Html(f'<div class="grid">{join(parts)}</div>')


def table(caption: str, head: Sequence[object], rows: Sequence[Sequence[object]], right: int = 0) -> Html:
    """Lay out a table of texts, the first of each row its heading, the last columns to the right.

    What is `Safe` stays as it is; of a long table the first rows are shown.
    """
    split = len(head) - right
    shown = [_row("td", row, split) for row in rows[:MOST_ROWS]]
    more = len(rows) - MOST_ROWS
    long = "" if right else ' class="long"'
    rest = f"<p>And {more:,} more: run.json has them.</p>" if more > 0 else ""
    return Html(
        f'<div class="wide"><table{long}><caption>{text(caption)}</caption><thead>{_row("th", head, split)}</thead>'
        f"<tbody>{''.join(shown)}</tbody></table></div>{rest}"
    )


class Safe:
    """Markup that stands in a table's cell."""

    def __init__(self, markup: Html) -> None:
        self.html = markup


def share_bar(share: float, label: str) -> Safe:
    """Draw a bar from 0 to 1 with its label."""
    width = f"{100 * min(max(share, 0.0), 1.0):.1f}"
    return Safe(Html(f'<span class="bar"><i style="width:{width}%"></i></span><span class="num">{text(label)}</span>'))


def picture(png: bytes, alt: str, caption: str, kind: str = "") -> Html:
    """Show a PNG with what it shows in words; one of kind 'wide' is not made narrower than it can be read."""
    data = b64encode(png).decode()
    return Html(
        f'<figure class="{kind}"><img src="data:image/png;base64,{data}" alt="{text(alt)}">'
        f"<figcaption>{text(caption)}</figcaption></figure>"
    )


def page(title: str, lead: Html, sections: Sequence[tuple[str, Html]]) -> str:
    """Make the whole page, with a list of its sections."""
    links = "".join(f'<li><a href="#{_anchor(name)}">{text(name)}</a></li>' for name, _ in sections)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta name="color-scheme" content="light dark"><title>{text(title)}</title><style>{STYLE}</style></head>\n'
        f'<body><header><h1>{text(title)}</h1>{lead}</header>\n<nav aria-label="Contents"><ul>{links}</ul></nav>\n'
        f"<main>{join(part for _, part in sections)}</main></body></html>\n"
    )


def _as_html(value: object) -> Html:
    """Give what is `Safe` as it stands, and any other value escaped."""
    return value.html if isinstance(value, Safe) else text(value)


def _row(kind: str, values: Sequence[object], split: int) -> str:
    cells = []
    for at, value in enumerate(values):
        right = ' class="r"' if at >= split else ""
        head = kind == "th" or at == 0
        opened = ("th scope=" + ('"col"' if kind == "th" else '"row"')) if head else "td"
        cells.append(f"<{opened}{right}>{_as_html(value)}</{'th' if head else 'td'}>")
    return f"<tr>{''.join(cells)}</tr>"


def _anchor(title: str) -> str:
    return "-".join("".join(letter if letter.isalnum() else " " for letter in title.lower()).split())
