"""Charts of a report that need no picture: heat maps and bars as tables, dots and histograms as SVG."""

from collections.abc import Sequence

import numpy as np

from tasks.core.numerics.block import Float64Array, IntArray, NumberArray
from tasks.core.results.report_data import CrossTable, Histogram, Markers
from tasks.core.results.report_html import Html, text

MOST_COLUMNS = 30
MOST_ROWS = 60
STEPS = 9
_OTHERS = "other"


def heat_map(crossed: CrossTable, caption: str) -> Html:
    """Draw the shares of each row, in percent, as a table with coloured cells.

    Of many columns those with most cells are shown, and the rest together; of many rows those with most cells.
    """
    columns, counts_rc = _with_others(crossed.column_names, crossed.counts_rc)
    rows = np.sort(np.argsort(-counts_rc.sum(axis=1), kind="stable")[:MOST_ROWS])
    head = "".join(f'<th scope="col" title="{text(name)}"><span>{text(name)}</span></th>' for name in columns)
    body = "".join(_heat_row(crossed.row_names[row], counts_rc[row]) for row in rows)
    hidden = len(counts_rc) - len(rows)
    rest = f"<p>{hidden:,} smaller rows are not shown.</p>" if hidden else ""
    return Html(
        f'<div class="wide"><table class="heat"><caption>{text(caption)}</caption><thead><tr>'
        f'<th scope="col">{text(crossed.row)}</th>{head}<th scope="col"><span>cells</span></th></tr></thead>'
        f"<tbody>{body}</tbody></table></div>{rest}"
    )


def _with_others(names: Sequence[object], counts_rc: IntArray) -> tuple[list[object], IntArray]:
    """Columns by their cells, the most first, and all beyond a bound as one."""
    order = np.argsort(-counts_rc.sum(axis=0), kind="stable")
    shown, rest = order[:MOST_COLUMNS], order[MOST_COLUMNS:]
    columns = [names[at] for at in shown]
    if not len(rest):
        return columns, counts_rc[:, shown]
    together = counts_rc[:, rest].sum(axis=1, keepdims=True)
    return [*columns, f"{len(rest):,} {_OTHERS}"], np.hstack([counts_rc[:, shown], together])


def _heat_row(name: object, counts_c: IntArray) -> str:
    total = int(counts_c.sum())
    cells = "".join(_heat_cell(count / max(total, 1)) for count in counts_c)
    return f'<tr><th scope="row">{text(name)}</th>{cells}<td class="r">{total:,}</td></tr>'


def _heat_cell(share: float) -> str:
    percent = "" if share == 0 else "&lt;1" if share < 0.005 else f"{100 * share:.0f}"
    return f'<td class="q{_step(share)}">{percent}</td>'


def _step(share: float) -> int:
    # Small shares are to be told from none.
    return 0 if share <= 0 else min(STEPS - 1, 1 + int(share * (STEPS - 1)))


def dot_plot(markers: Markers, genes: Sequence[str]) -> Html:
    """Draw genes by clusters: the dot's area is the share of cells that express it, its colour the mean expression.

    The colour is relative to the cluster in which the gene's mean is highest. Of many clusters the first are drawn.
    """
    at = [list(markers.genes).index(gene) for gene in genes]
    clusters = markers.clusters[:MOST_ROWS]
    shares_cg, means_cg = (of_cg[: len(clusters), at] for of_cg in (markers.share_cg, markers.mean_cg))
    relative_cg = means_cg / np.maximum(means_cg.max(axis=0, initial=0.0), 1e-12)
    left, top, cell = 10 + 8 * max((len(text(gene)) for gene in genes), default=0), 26, 18
    width, height = left + cell * len(clusters) + 6, top + cell * len(genes) + 6
    parts = [f'<text x="{left + cell * c + 9}" y="18" class="m">{text(name)}</text>' for c, name in enumerate(clusters)]
    for g, gene in enumerate(genes):
        y = top + cell * g + 9
        parts.append(f'<text x="{left - 6}" y="{y + 4}" class="e">{text(gene)}</text>')
        parts += _dots(shares_cg[:, g], relative_cg[:, g], left + 9, y, cell)
    alt = f"Dot plot of {len(genes)} marker genes in {len(clusters)} clusters; the table below has the figures."
    return Html(
        f'<figure class="wide"><svg class="paper fixed" role="img" aria-label="{alt}" width="{width}" '
        f'height="{height}" viewBox="0 0 {width} {height}">{"".join(parts)}</svg>'
        f"<figcaption>Rows are genes, columns clusters. {_key()}</figcaption></figure>"
    )


def _dots(shares_c: NumberArray, relative_c: NumberArray, left: int, y: int, cell: int) -> list[str]:
    radii_c = np.sqrt(np.clip(shares_c, 0, 1)) * (cell / 2 - 0.5)
    return [
        f'<circle cx="{left + cell * c}" cy="{y}" r="{radius:.1f}" class="d{_step(float(relative))}"/>'
        for c, (radius, relative) in enumerate(zip(radii_c, relative_c, strict=True))
        if radius >= 0.5
    ]


def _key() -> str:
    sizes = "".join(
        f'<circle cx="{10 + 22 * at}" cy="10" r="{8.5 * share**0.5:.1f}" class="d5"/>'
        for at, share in enumerate((0.1, 0.25, 0.5, 1.0))
    )
    shades = "".join(f'<rect x="{12 * at - 10}" y="3" width="12" height="14" class="d{at}"/>' for at in range(1, STEPS))
    return (
        "Size: share of the cluster's cells that express the gene "
        f'(<svg class="paper key" width="88" height="20" aria-hidden="true">{sizes}</svg> 10, 25, 50, 100 %). '
        "Colour: mean expression, from none to that of the cluster where it is highest "
        f'(<svg class="paper key" width="100" height="20" aria-hidden="true"><g>{shades}</g></svg>).'
    )


def histogram(of: Histogram) -> Html:
    """Draw a histogram of cells, and the thresholds as dashed lines with their values."""
    width, height, base = 320, 150, 128
    bins = max(len(of.counts_b), 1)
    heights_b = 100 * of.counts_b / max(int(of.counts_b.max(initial=0)), 1)
    step = (width - 12) / bins
    bars = "".join(
        f'<rect x="{6 + step * at:.1f}" y="{base - tall:.1f}" width="{max(step - 0.6, 0.4):.1f}" '
        f'height="{tall:.1f}" class="d5"/>'
        for at, tall in enumerate(heights_b)
        if tall > 0
    )
    places = [6 + step * place for place in np.interp(of.thresholds, of.edges.astype(float), np.arange(bins + 1.0))]
    lines = "".join(_threshold(x, value, width) for x, value in zip(places, of.thresholds, strict=True))
    told = f"{of.measure}: {int(of.counts_b.sum()):,} cells{_told(of.thresholds)}"
    return Html(
        f'<figure><svg class="paper" role="img" aria-label="Histogram of {text(told)}" '
        f'viewBox="0 0 {width} {height}">{bars}{lines}'
        f'<line x1="6" x2="{width - 6}" y1="{base}" y2="{base}" class="axis"/>{_ticks(of.edges, step, base)}</svg>'
        f"<figcaption>{text(told)}</figcaption>"
        "</figure>"
    )


def _threshold(x: float, value: float, width: int) -> str:
    side = "e" if x > width / 2 else "s"
    return (
        f'<line x1="{x:.1f}" x2="{x:.1f}" y1="16" y2="128" class="bound"/>'
        f'<text x="{x + (4 if side == "s" else -4):.1f}" y="14" class="{side}">{value:,g}</text>'
    )


def _ticks(edges: Float64Array | NumberArray, step: float, base: int) -> str:
    last = len(edges) - 1
    marks = []
    for at, side in ((0, "s"), (last // 2, "m"), (last, "e")):
        marks.append(f'<text x="{6 + step * at:.1f}" y="{base + 15}" class="{side}">{float(edges[at]):,.4g}</text>')
    return "".join(marks)


def _told(thresholds: Sequence[float]) -> str:
    bounds = " and ".join(f"{value:,g}" for value in thresholds)
    return f"; {'bound' if len(thresholds) == 1 else 'bounds'} at {bounds} (dashed)" if bounds else ""
