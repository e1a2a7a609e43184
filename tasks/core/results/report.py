"""The report of a run, `report.html`: one static file for people, to open on a phone or a desktop and to print.

Takes a second and some tens of megabytes to import, as `plots` does: not before there is something to draw.
"""

import re
from base64 import b64encode
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from markupsafe import Markup, escape

from tasks.core.model.find_markers import MOST_DOTS
from tasks.core.numerics.association import cramers_v
from tasks.core.numerics.block import NumberArray
from tasks.core.results import plots
from tasks.core.results.record import RunRecord
from tasks.core.results.repeat import repeat_command, told_settings, versions
from tasks.core.results.report_data import (
    EMBEDDING,
    REPORT,
    SCREE,
    Agreement,
    CrossTable,
    DrawnCells,
    Histogram,
    KChoice,
    Markers,
    Quality,
    ReportData,
)
from tasks.core.results.summary import Table, context_of, one_line, templates

_MOST_COLUMNS, _MOST_LINES, _MOST_TOP, _MOST_CLASSES = 30, 60, 250, 25
_SHADES, _DOT = 9, 17
# Of Cramer's V: what counts as nearly the same, and as hardly related.
_NEARLY, _HARDLY = 0.8, 0.3


def write_report(data: ReportData, folder: Path) -> None:
    """Write the page, and as pictures of their own the components and the cells in the first four of them."""
    (folder / REPORT).write_text(report(data), encoding="utf-8")
    if isinstance(data.record, RunRecord):
        (folder / SCREE).write_bytes(_scree(data.record))
    if data.cells:
        clusters = data.cells.clusters_n.tolist()
        drawn = plots.scatter(_planes(data.cells), clusters, plots.colours_of(clusters))
        (folder / EMBEDDING).write_bytes(drawn)


def report(data: ReportData) -> str:
    """Write the page: no script, nothing fetched, all text from data escaped; the same bytes for the same data."""
    record = data.record
    context = context_of(record)
    context |= {
        "title": f"Single cells of {record.dataset['name']}",
        "cells": _cells(data.cells) if data.cells else None,
        "composition": _compositions(data.compositions) if data.compositions else None,
        "agreement": _agreement(data.agreements) if data.agreements else None,
        "recall": [_recall(of) for of in data.agreements],
        "markers": _markers(data.markers) if data.markers else None,
        "choice": _choice(data.choice) if data.choice else None,
        "confounding": _confounding(data.batches) if data.batches else None,
        "scree": _scree(record) if isinstance(record, RunRecord) else None,
        "quality": _quality(data.quality) if data.quality else None,
        "command": _verbatim(repeat_command(record)),
        "settings": list(told_settings(record)),
        "versions": versions(record),
    }
    found = templates(_text)
    found.filters["base64"] = lambda png: b64encode(png).decode()
    found.filters["headings"] = re.compile("<h2>(.*?)</h2>").findall
    return found.get_template("report.html.j2").render(context)


def _text(value: object) -> Markup:
    """Escape a value as one line of text; what is not known is a dash, and what shows nothing is said to."""
    return Markup("&ndash;") if value is None else escape(one_line(value)) or Markup("(empty)")


def _verbatim(value: str) -> Markup:
    """Escape a text of lines as it stands; what cannot be seen is shown as a mark."""
    return escape("".join(letter if letter.isprintable() or letter == "\n" else "\ufffd" for letter in value))


def _scree(record: RunRecord) -> bytes:
    fitted = pl.DataFrame(record.svd["components"])
    ratios, residuals = (fitted[name].to_numpy() for name in ("explained_variance_ratio", "residual"))
    return plots.scree(ratios, residuals, fitted["settled"].to_numpy())


def _cells(of: DrawnCells) -> dict[str, Any]:
    varied = {name: of.metadata[name].to_list() for name in of.metadata.columns if of.metadata[name].n_unique() > 1}
    colourings = [_coloured(of, name, values) for name, values in {"cluster": of.clusters_n.tolist(), **varied}.items()]
    return {"drawn": f"{len(of.clusters_n):,}", "total": f"{of.total:,}", "colourings": colourings}


def _coloured(of: DrawnCells, name: str, values: Sequence[Any]) -> dict[str, Any]:
    planes = _planes(of)
    if of.map_n2 is not None:
        planes.insert(0, ((f"{of.map_name} 1", f"{of.map_name} 2"), of.map_n2))
    colours, counts = plots.colours_of(values), Counter(values)
    legend = [
        (colour, "" if key == str(value) else key, value, f"{counts[value]:,}")
        for value, (colour, key) in colours.items()
    ]
    if rest := len(counts) - len(legend):
        cells = len(values) - sum(counts[value] for value in colours)
        legend.append((plots.OTHERS, "", f"{rest:,} others", f"{cells:,}"))
    pictures = [
        (of.map_name if across == f"{of.map_name} 1" else f"{across} and {up}", plots.scatter([plane], values, colours))
        for plane in planes
        for across, up in [plane[0]]
    ]
    return {"name": name, "pictures": pictures, "legend": legend}


def _planes(of: DrawnCells) -> list[tuple[tuple[str, str], NumberArray]]:
    pairs = list(pairwise(range(min(of.components_nk.shape[1], 4))))[::2] or [(0, 0)]
    return [((f"pc{x + 1}", f"pc{y + 1}"), of.components_nk[:, [x, y]]) for x, y in pairs]


def _compositions(crossed: Sequence[CrossTable]) -> dict[str, Any]:
    varied = [one for one in crossed if len(one.column_names) > 1]
    single = [(one.column, one.column_names[0]) for one in crossed if len(one.column_names) == 1]
    return {"maps": [_heat_map(one) for one in varied], "single": single}


def _heat_map(of: CrossTable) -> dict[str, Any]:
    """Give the shares of each row; of many columns those with most cells, and the rest together."""
    order = np.argsort(-of.counts_rc.sum(axis=0), kind="stable")
    shown, rest = order[:_MOST_COLUMNS], order[_MOST_COLUMNS:]
    names, counts_rc = [of.column_names[at] for at in shown], of.counts_rc[:, shown]
    if len(rest):
        names.append(f"{len(rest):,} other")
        counts_rc = np.hstack([counts_rc, of.counts_rc[:, rest].sum(axis=1, keepdims=True)])
    rows = np.sort(np.argsort(-counts_rc.sum(axis=1), kind="stable")[:_MOST_LINES])
    lines = [
        (of.row_names[row], [_shaded(n / max(counts_rc[row].sum(), 1)) for n in counts_rc[row]], counts_rc[row].sum())
        for row in rows
    ]
    return {
        "row": of.row,
        "column": of.column,
        "names": names,
        "rows": [(name, cells, f"{total:,}") for name, cells, total in lines],
        "hidden": len(of.counts_rc) - len(rows),
    }


def _shaded(share: float) -> tuple[int, str]:
    return _step(share), "" if share == 0 else "&lt;1" if share < 0.005 else f"{100 * share:.0f}"


def _step(share: float) -> int:
    # Small shares are to be told from none.
    return 0 if share <= 0 else min(_SHADES - 1, 1 + int(share * (_SHADES - 1)))


def _choice(of: KChoice) -> Table:
    scores = of.scores
    best = {name: scores[name].arg_max() for name in ("silhouette", "calinski_harabasz")}
    best["davies_bouldin"] = scores["davies_bouldin"].arg_min()
    rows = [
        (
            f"{row['k']} (chosen)" if row["k"] == of.chosen else row["k"],
            *(_score(row[name], is_best=at == best[name]) for name in best),
        )
        for at, row in enumerate(scores.iter_rows(named=True))
    ]
    head = ["clusters", "silhouette (higher is better)", "Calinski-Harabasz (higher)", "Davies-Bouldin (lower)"]
    return Table("Scores by number of clusters; the best in bold", head, rows, right=3)


def _score(value: float | None, *, is_best: bool) -> object:
    shown = None if value is None else f"{value:,.4g}"
    return Markup('<b class="best">{}</b>').format(shown) if is_best else shown


def _agreement(of: Sequence[Agreement]) -> Table:
    def told(value: float | None) -> str | None:
        return None if value is None else f"{value:.3f}"

    rows = [(one.column, *map(told, (one.adjusted_rand, one.nmi, one.ilisi))) for one in of]
    return Table("Agreement of the clusters", ["column", "adjusted Rand index", "NMI", "iLISI"], rows, right=3)


def _recall(of: Agreement) -> tuple[str, list[tuple[object, float]], int]:
    worst = sorted(of.recall.items(), key=lambda pair: (pair[1], str(pair[0])))
    return of.column, worst[:_MOST_CLASSES], max(len(worst) - _MOST_CLASSES, 0)


def _confounding(batches: Sequence[CrossTable]) -> dict[str, Any]:
    key = batches[0].row
    rows = [
        (one.column, f"{cramers_v(one.counts_rc):.2f}", f"{_alone(one):,} of {len(one.column_names):,}")
        for one in batches
    ]
    head = ["column", "Cramer's V", "classes in one batch only"]
    return {
        "key": key,
        "table": Table(f"How much {key} and each column tell of each other", head, rows, right=2),
        "sentences": [would_remove(one) for one in batches],
        "composition": _compositions(batches),
    }


def would_remove(crossed: CrossTable) -> str:
    """Say in a sentence what a correction by the batch key would remove of a column's differences."""
    v, key, column = cramers_v(crossed.counts_rc), crossed.row, crossed.column
    if min(np.count_nonzero(crossed.counts_rc.any(axis=axis)) for axis in (0, 1)) < 2:
        return f"{column}: there is one value of it or of {key} only, so nothing can be said."
    if v >= _NEARLY:
        return (
            f"{column} is nearly the same as {key}: a correction by {key} would remove most of what tells the "
            f"{column} values apart."
        )
    alone = _alone(crossed)
    share = f"; {alone:,} of its {len(crossed.column_names):,} values are in one {key} only" if alone else ""
    if v >= _HARDLY or alone:
        return (
            f"{column} is partly confounded with {key}{share}: a correction by {key} would remove part of what tells "
            f"the {column} values apart."
        )
    return f"{column} is hardly related to {key}: a correction by {key} would leave its differences."


def _alone(crossed: CrossTable) -> int:
    return int(np.count_nonzero(np.count_nonzero(crossed.counts_rc, axis=0) == 1))


def _markers(of: Markers) -> dict[str, Any]:
    """Give the dots and the best genes; of many clusters those of the first."""
    shown = of.clusters[:_MOST_LINES]
    top = of.top.filter(pl.col("cluster").is_in(list(shown)))
    most = max(1, min(_MOST_TOP // max(of.top["cluster"].n_unique(), 1), 10))
    groups = top.group_by("cluster", maintain_order=True).head(most).group_by("cluster", maintain_order=True)
    return {
        "clusters": shown,
        "dots": list(_dots(of, len(shown))),
        "key": [_width(share) for share in (0.1, 0.25, 0.5, 1.0)],
        "tables": [_top_genes(name, rows) for (name,), rows in groups],
        "hidden": len(of.clusters) - len(shown),
    }


def _dots(of: Markers, clusters: int) -> Iterator[tuple[str, list[tuple[float, int]]]]:
    """Give for each gene the width and the shade of its dot in each cluster.

    The area is the share of cells that express it, the shade the mean relative to the cluster where it is highest.
    """
    shares_cg, means_cg = of.share_cg[:clusters], of.mean_cg[:clusters]
    relative_cg = means_cg / np.maximum(means_cg.max(axis=0, initial=0.0), 1e-12)
    for at, gene in enumerate(of.genes[:MOST_DOTS]):
        pairs = zip(shares_cg[:, at], relative_cg[:, at], strict=True)
        yield gene, [(_width(share), _step(float(mean))) for share, mean in pairs]


def _width(share: float) -> float:
    width = round(_DOT * float(np.sqrt(np.clip(share, 0, 1))), 1)
    return width if width >= 1 else 0


def _top_genes(cluster: object, rows: pl.DataFrame) -> Table:
    head = ["gene", "Cohen's d", "log2 FC", "in / out, %", "adj. p"]
    told = [
        (
            row["gene"],
            f"{row['cohens_d']:.2f}",
            f"{row['logfoldchanges']:+.1f}",
            f"{100 * row['pct_nz_group']:.0f} / {100 * row['pct_nz_reference']:.0f}",
            f"{row['pvals_adj']:.0e}" if row["pvals_adj"] >= 1e-300 else "<1e-300",
        )
        for row in rows.iter_rows(named=True)
    ]
    return Table(f"Cluster {cluster}", head, told, right=4)


def _quality(of: Quality) -> dict[str, Any]:
    removed = [(reason, f"{number:,}") for reason, number in of.removed.items()]
    return {
        "histograms": [_histogram(one) for one in of.histograms],
        "removed": Table("Left out for their quality", ["what", "number"], removed, right=1) if removed else None,
    }


def _histogram(of: Histogram) -> tuple[str, bytes]:
    bounds = " and ".join(f"{value:,g}" for value in of.thresholds)
    told = f"; {'bound' if len(of.thresholds) == 1 else 'bounds'} at {bounds} (dashed)" if bounds else ""
    drawn = plots.histogram(of.counts_b, of.edges, of.thresholds)
    return f"{of.measure}: {int(of.counts_b.sum()):,} cells{told}", drawn
