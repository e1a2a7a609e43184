"""Sections of a report that tell of the embedding and of the clusters."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl

from tasks.core.model.find_markers import MOST_DOTS
from tasks.core.numerics.association import cramers_v
from tasks.core.results.record import ApplyRecord, RunRecord
from tasks.core.results.report_charts import MOST_ROWS, dot_plot, heat_map
from tasks.core.results.report_data import Agreement, CrossTable, DrawnCells, KChoice, Markers
from tasks.core.results.report_html import (
    Html,
    Safe,
    bullets,
    grid,
    paragraph,
    picture,
    section,
    share_bar,
    side_by_side,
    subsection,
    table,
    text,
)
from tasks.core.results.summary import accuracy

_MOST_TOP = 250
_MOST_SIZES = 50
_MOST_CLASSES = 25
# Of Cramer's V: what counts as nearly the same, and as hardly related.
_NEARLY, _HARDLY = 0.8, 0.3


def components(record: RunRecord) -> tuple[str, Html]:
    """Draw what each component explains, and how right it is."""
    from tasks.core.results import plots  # noqa: PLC0415  (only a run that gets here draws)

    fitted = pl.DataFrame(record.svd["components"])
    ratios, residuals = (fitted[name].to_numpy() for name in ("explained_variance_ratio", "residual"))
    drawn = plots.scree(ratios, residuals, fitted["settled"].to_numpy())
    alt = f"Scree plot: share of the variance, and residual, of {len(fitted):,} components; components.csv has them."
    return section("Components", picture(drawn, alt, f"{accuracy(record)}.", "wide"))


def embedding(cells: DrawnCells) -> tuple[str, Html]:
    """Draw cells on the map and in the first components, by cluster and by each metadata column."""
    from tasks.core.results.report_scatter import by_class, by_cluster  # noqa: PLC0415

    colourings = [("cluster", by_cluster(np.asarray(cells.clusters_n)))]
    varied = [name for name in cells.metadata.columns if cells.metadata[name].n_unique() > 1]
    colourings += [(name, by_class(cells.metadata[name].to_list())) for name in varied]
    told = (
        f"{len(cells.clusters_n):,} of {cells.total:,} cells. Numbers and letters stand where a class is densest among "
        "the others; the most frequent classes have a colour and a mark, the others are grey. A column with one value "
        "only is not shown."
    )
    return section("Embedding", paragraph(told), *(_coloured(cells, name, of) for name, of in colourings))


def _coloured(cells: DrawnCells, name: str, colouring: Any) -> Html:
    from tasks.core.results.report_scatter import draw, legend  # noqa: PLC0415

    pictures = [
        picture(draw(points_n2, colouring, axes), f"Cells in {where}, coloured by {name}; the legend follows.", where)
        for where, axes, points_n2 in _planes(cells)
    ]
    return subsection(f"By {name}", grid(pictures), legend(colouring, name))


def _planes(cells: DrawnCells) -> list[tuple[str, tuple[str, str], Any]]:
    z_nk = cells.components_nk
    planes = list(pairwise(range(min(z_nk.shape[1], 4))))[::2] or [(0, 0)]
    found = [
        (f"pc{across + 1} and pc{up + 1}", (f"pc{across + 1}", f"pc{up + 1}"), z_nk[:, [across, up]])
        for across, up in planes
    ]
    name = cells.map_name
    return found if cells.map_n2 is None else [(name, (f"{name} 1", f"{name} 2"), cells.map_n2), *found]


def sizes(record: RunRecord | ApplyRecord) -> tuple[str, Html]:
    """Count the cells of each cluster."""
    of = record.clustering if isinstance(record, RunRecord) else record.clusters
    cells = sorted(zip(of["names"], of["sizes"], strict=True), key=lambda pair: (-pair[1], pair[0]))
    total = max(sum(size for _, size in cells), 1)
    largest = cells[0][1] or 1
    rows: list[tuple[object, ...]] = [
        (name, share_bar(size / largest, f"{size:,}"), f"{100 * size / total:.1f} %")
        for name, size in sorted(cells[:_MOST_SIZES])
    ]
    if rest := [size for _, size in cells[_MOST_SIZES:]]:
        rows.append((f"{len(rest):,} smaller", f"{sum(rest):,}", f"{100 * sum(rest) / total:.1f} %"))
    return section("Cluster sizes", table("Cells of each cluster", ["cluster", "cells", "share"], rows, right=1))


def compositions(crossed: Sequence[CrossTable]) -> tuple[str, Html]:
    """Show what the clusters are made of."""
    return section("Composition", *_compositions(crossed))


def _compositions(crossed: Sequence[CrossTable]) -> list[Html]:
    single = [f"All cells have one {one.column}: {one.column_names[0]}." for one in crossed if _is_single(one)]
    maps = [_composition(one) for one in crossed if not _is_single(one)]
    return [side_by_side(maps), *([bullets(single)] if single else [])]


def _is_single(crossed: CrossTable) -> bool:
    return len(crossed.column_names) == 1


def _composition(crossed: CrossTable) -> Html:
    caption = f"Of the cells of each {crossed.row}, the share with each {crossed.column}, in percent"
    return subsection(f"{crossed.row} by {crossed.column}", heat_map(crossed, caption))


def choice(of: KChoice) -> tuple[str, Html]:
    """Tell the scores of different numbers of clusters; the best of each is marked."""
    best = {
        "silhouette": of.scores["silhouette"].arg_max(),
        "calinski_harabasz": of.scores["calinski_harabasz"].arg_max(),
        "davies_bouldin": of.scores["davies_bouldin"].arg_min(),
    }
    rows = [
        (
            f"{row['k']} (chosen)" if row["k"] == of.chosen else row["k"],
            *(_score(row[name], is_best=at == best[name]) for name in best),
        )
        for at, row in enumerate(of.scores.iter_rows(named=True))
    ]
    head = ["clusters", "silhouette (higher is better)", "Calinski-Harabasz (higher)", "Davies-Bouldin (lower)"]
    told = "The silhouette is of a sample of up to 3,000 cells, the other scores are of all cells."
    return section(
        "Choice of the number of clusters",
        paragraph(told),
        table("Scores by number of clusters; the best in bold", head, rows, right=3),
    )


def _score(value: float | None, *, is_best: bool) -> object:
    shown = None if value is None else f"{value:,.4g}"
    return Safe(Html(f'<b class="best">{text(shown)}</b>')) if is_best else shown


def agreements(of: Sequence[Agreement]) -> tuple[str, Html]:
    """Tell how well the clusters agree with metadata columns, class by class, and how well classes are mixed."""
    rows = [
        (one.column, f"{one.adjusted_rand:.3f}", f"{one.nmi:.3f}", None if one.ilisi is None else f"{one.ilisi:.3f}")
        for one in of
    ]
    head = ["column", "adjusted Rand index", "NMI", "iLISI"]
    told = (
        "The adjusted Rand index and NMI (normalized mutual information) are 1 where the clusters are the classes, and "
        "about 0 where they have nothing to do with them. iLISI is 0 where the classes lie apart and 1 where they "
        "are mixed; it looks at the neighbours of up to 1,000 cells among all cells."
    )
    return section(
        "How good",
        paragraph(told),
        table("Agreement of the clusters", head, rows, right=3),
        side_by_side(map(_recall, of)),
    )


def _recall(of: Agreement) -> Html:
    worst = sorted(of.recall.items(), key=lambda pair: (pair[1], str(pair[0])))
    rows = [(name, share_bar(recall, f"{100 * recall:.1f} %")) for name, recall in worst[:_MOST_CLASSES]]
    more = len(worst) - len(rows)
    rest = [paragraph(f"{more:,} more classes, each with a higher share, are not shown.")] if more else []
    caption = f"Share of each {of.column}'s cells in the cluster that is matched with it, the lowest first"
    return subsection(f"Recall by {of.column}", table(caption, [of.column, "recall"], rows), *rest)


def confounding(batches: Sequence[CrossTable]) -> tuple[str, Html]:
    """Tell what is confounded with the batch key, and what a correction by it would therefore remove."""
    key = batches[0].row
    rows = [
        (one.column, f"{cramers_v(one.counts_rc):.2f}", f"{_alone(one):,} of {len(one.column_names):,}")
        for one in batches
    ]
    head = ["column", "Cramer's V", "classes in one batch only"]
    return section(
        "Confounded with the batch",
        paragraph(
            f"The batch key is {key}. Cramer's V is 1 where a column tells the batch or the batch tells it, and 0 "
            "where they are independent. A class that is in one batch only cannot be told from that batch."
        ),
        table(f"How much {key} and each column tell of each other", head, rows, right=2),
        bullets(would_remove(one) for one in batches),
        *_compositions(batches),
    )


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


def markers(of: Markers) -> tuple[str, Html]:
    """Show marker genes as dots and as figures; of many clusters those of the first."""
    shown = of.clusters[:MOST_ROWS]
    top, share = of.top.filter(pl.col("cluster").is_in(list(shown))), max(of.top["cluster"].n_unique(), 1)
    drawn = dict.fromkeys(top.filter(pl.col("gene").is_in(list(of.genes))).pipe(_first, MOST_DOTS // share)["gene"])
    tables = [
        _top_genes(name, rows)
        for (name,), rows in _first(top, _MOST_TOP // share).group_by("cluster", maintain_order=True)
    ]
    told = (
        "Cohen's d: the difference of the means over the standard deviation, by which the genes are ranked. FC: fold "
        "change. In / out: the share of cells that express a gene, in the cluster and in all others. Adj. p: of "
        "Welch's t-test, adjusted for all genes (Benjamini-Hochberg). It is far too small, for the clusters were found "
        "in the same cells: it does not say that a cluster is real."
    )
    hidden = len(of.clusters) - len(shown)
    rest = [paragraph(f"{hidden:,} more clusters are not shown; markers.csv has their genes.")] if hidden else []
    return section("Markers", dot_plot(of, list(drawn)), paragraph(told), grid(tables), *rest)


def _first(top: pl.DataFrame, number: int) -> pl.DataFrame:
    return top.group_by("cluster", maintain_order=True).head(max(1, min(number, 10)))


def _top_genes(cluster: object, rows: pl.DataFrame) -> Html:
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
    return table(f"Cluster {cluster}", head, told, right=4)
