"""What a person wants to know of a finished run, in sentences and as a page of Markdown.

Names and reasons that come from a dataset are escaped: on the page they are text and nothing else.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from tasks.core.model.drift import Drift
from tasks.core.results.findings import CLUSTER
from tasks.core.results.record import RECORD, ApplyRecord, Record, RunRecord

_FIRST_COMPONENTS = 10
_MOST_CLUSTERS, _MOST_ROWS = 50, 60
_LONGEST_TEXT = 300
COST_COLUMNS = ("stage", "time", "cells/s", "peak memory", "made", "found")
# Nothing in a number means anything to Markdown.
_NUMBER = re.compile(r"[+-]?\d([\d.,]*\d)?(e[+-]\d+)?( %| s| GB)?")
_PUNCTUATION = re.compile(r"([!-/:-@\[-`{-~])")


def what_to_know(record: Record) -> list[str]:
    """Tell what a reader of the results must know, a sentence each, the most important first."""
    read, dataset = record.read, record.dataset
    told = [f"{read['cells']:,} cells, {read['nonzeros']:,} counts"]
    if dataset["simulated"]:
        told.append("the cells are simulated")
    if dataset["ended_early"]:
        told.append(f"the dataset ended before the {dataset['cells_asked_for']:,} cells asked for")
    if read["empty_cells"]:
        told.append(f"{read['empty_cells']:,} cells have no counts and are kept as zeros")
    if record.bad_data:
        told.append(f"{read['skipped_cells']:,} BAD CELLS WERE SKIPPED: {RECORD} lists them with the reasons")
    if record.damaged:
        told.append(f"objects of the store were damaged or gone and were made again: see {RECORD}")
    return told + (_of_a_fit(record) if isinstance(record, RunRecord) else [])


def _of_a_fit(record: RunRecord) -> list[str]:
    of_series = [] if record.series is None else [record.series.note, *record.series.exceeded]
    removed = record.removed["cells"]
    of_quality = [f"{removed:,} cells were left out for their quality"] if removed else []
    return [*of_quality, *_agreement(record), *record.svd["shortcomings"], *of_series, accuracy(record)]


def _agreement(record: RunRecord) -> list[str]:
    """Say in one sentence what the clusters are like."""
    compared = record.scores.comparisons if record.scores else ()
    told = [f"{one.column} {one.adjusted_rand_index:.2f}" for one in compared if one.clustering == CLUSTER]
    return [f"adjusted Rand index of the clusters with {', '.join(told)}"] if told else []


def accuracy(record: RunRecord) -> str:
    """Say in one sentence how right the components are."""
    components = record.svd["components"]
    worst = max(component["residual"] for component in components)
    settled = sum(component["settled"] for component in components)
    return (
        f"{settled:,} of {len(components):,} components settled to a residual of "
        f"{record.settings['svd_tolerance']:g} in {record.svd['passes']:,} passes; the worst residual is {worst:.1e}"
    )


@dataclass(frozen=True)
class Table:
    """A table of texts, its last columns to the right; of a long one the first rows are shown."""

    caption: str
    head: Sequence[object]
    rows: Sequence[Sequence[object]]
    right: int = 0

    @property
    def shown(self) -> list[Sequence[object]]:
        """The rows that are shown."""
        return list(self.rows[:_MOST_ROWS])

    @property
    def more(self) -> str:
        """How many more there are; nothing if none."""
        return f"{len(self.rows) - _MOST_ROWS:,}" if len(self.rows) > _MOST_ROWS else ""

    @property
    def rule(self) -> list[Markup]:
        """What Markdown draws below the head."""
        return [Markup("---")] * (len(self.head) - self.right) + [Markup("---:")] * self.right


def templates(escape: Callable[[object], Markup]) -> Environment:
    """Give the templates; whatever one puts out that is not markup is escaped by this function."""

    def finish(value: object) -> Markup:
        return value if isinstance(value, Markup) else escape(value)

    found = Environment(
        loader=PackageLoader("tasks.core.results"),
        autoescape=True,
        finalize=finish,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    # For what this project itself has written.
    found.filters["raw"] = Markup
    return found


def summary(record: Record, locate: Callable[[str], str], picture: Callable[[str], str]) -> str:
    """Write the page.

    Args:
        record: of the run.
        locate: gives the full path or URL of a file of the results, to be read.
        picture: gives the URL of a picture among them, to be shown.
    """
    page = templates(as_text).get_template("summary.md.j2")
    return page.render(context_of(record), locate=locate, picture=picture)


def context_of(record: Record) -> dict[str, Any]:
    """Give what both pages tell of a run, by its name in their templates."""
    fitted = record if isinstance(record, RunRecord) else None
    drift = fitted.series.drift if fitted and fitted.series else None
    clusters = fitted.clustering if fitted else record.clusters if isinstance(record, ApplyRecord) else None
    ratios = [component["explained_variance_ratio"] for component in fitted.svd["components"]] if fitted else []
    return {
        "record": record,
        "sentences": what_to_know(record),
        "ran": Table("What ran", ("what", "value"), what_ran(record)),
        "components": _variance(fitted.svd["components"]) if fitted else None,
        "accuracy": accuracy(fitted) if fitted else None,
        "explained": {"components": f"{len(ratios):,}", "share": f"{100 * sum(ratios):.2f} %"},
        "sizes": _sizes(clusters) if clusters else None,
        "drift": _drift(drift) if drift else None,
        "left_out": _left_out(record),
        "files": files_of(record),
        "costs": Table("Stages; what was found had been left by an earlier run", COST_COLUMNS, costs(record), 5),
    }


def as_text(value: object) -> Markup:
    """Escape what came from elsewhere, so that Markdown shows it as one line of text."""
    line = one_line("" if value is None else value)
    return Markup(line if _NUMBER.fullmatch(line) else _PUNCTUATION.sub(r"\\\1", line))  # noqa: S704  (it is escaped)


def one_line(value: object) -> str:
    """Give what came from elsewhere as one line of bounded length, without what cannot be seen."""
    line = " ".join(str(value).split())
    short = line if len(line) <= _LONGEST_TEXT else f"{line[:_LONGEST_TEXT]}..."
    return "".join(filter(str.isprintable, short))


def what_ran(record: Record) -> list[tuple[str, object]]:
    """Name the data and the main settings of a run; some come from elsewhere and are yet to be escaped."""
    norm = record.normalization
    asked = ("model", "recipe", "where", "pca_dim", "clusters", "seed", "series")
    return [
        ("dataset", record.dataset["name"]),
        ("revision", record.dataset["revision"]),
        ("cells", f"{record.read['cells']:,} in {record.read['partitions']:,} partitions"),
        ("genes", f"{record.read['genes']:,}"),
        *((name, record.settings[name]) for name in asked if record.settings.get(name) is not None),
        ("normalization", f"counts per {norm.target_sum:,.0f}{', log1p' if norm.log1p else ''}"),
    ]


def _variance(components: Sequence[dict[str, Any]]) -> Table:
    ratios = [component["explained_variance_ratio"] for component in components]
    rows = [
        (
            component["pc"],
            f"{component['singular_value']:.5g}",
            f"{component['residual']:.1e}",
            "yes" if component["settled"] else "NO",
            f"{100 * ratio:.3f} %",
            f"{100 * so_far:.2f} %",
        )
        for component, ratio, so_far in zip(components[:_FIRST_COMPONENTS], ratios, accumulate(ratios), strict=False)
    ]
    head = ["component", "singular value", "residual", "settled", "of the variance", "cumulative"]
    return Table("Components", head, rows, 5)


def _sizes(of: dict[str, Any]) -> dict[str, Any]:
    cells = sorted(zip(of["names"], of["sizes"], strict=True), key=lambda pair: (-pair[1], pair[0]))
    total = max(sum(size for _, size in cells), 1)
    rows: list[tuple[object, object, str]] = [
        (name, size, f"{100 * size / total:.1f} %") for name, size in sorted(cells[:_MOST_CLUSTERS])
    ]
    if rest := [size for _, size in cells[_MOST_CLUSTERS:]]:
        rows.append((f"{len(rest):,} smaller", sum(rest), f"{100 * sum(rest) / total:.1f} %"))
    shown = [(name, f"{size:,}", share) for name, size, share in rows]
    return {
        "rows": rows,
        "largest": cells[0][1] or 1,
        "table": Table("Cells of each cluster", ("cluster", "cells", "share"), shown, 2),
    }


def _drift(drift: Drift) -> Table:
    agreement = "-" if drift.agreement is None else f"{drift.agreement:.3f}"
    rows = [
        ("cells", f"{drift.cells[1]:,}", f"{drift.cells[0]:,}"),
        ("cells of both", "", f"{drift.shared_cells:,}"),
        ("shards that are new or changed", "", f"{drift.shards_added:,}"),
        ("shards that are gone or changed", "", f"{drift.shards_gone:,}"),
        ("explained variance", *(f"{100 * share:.2f} %" for share in reversed(drift.explained_variance))),
        ("variance along the components of before that those of now span", "", f"{100 * drift.overlap:.2f} %"),
        ("adjusted Rand index on the cells of both", "", agreement),
        ("largest shift of a centre, of the way to the next", "", f"{max(drift.shifts.values(), default=0.0):.2f}"),
        ("new clusters", "", ", ".join(map(str, drift.new)) or "none"),
        ("vanished clusters", ", ".join(map(str, drift.vanished)) or "none", ""),
    ]
    return Table("Drift", ["what", "the run before", "now"], rows, 2)


def _left_out(record: Record) -> list[tuple[str, Table]]:
    bad = [(at.shard, at.reason, f"{at.row:,}", f"{at.rows:,}") for at in record.bad_data]
    found = [
        ("Skipped data", Table("Rows that were skipped", ["shard", "reason", "row", "rows"], bad, 2)),
        ("Left out of the tables", Table("What, and why", ["what", "reason"], list(record.skipped.items()))),
        ("Damage that was repaired", Table("Objects of the store", ["what"], [(one,) for one in record.damaged])),
    ]
    return [(heading, table) for heading, table in found if table.rows]


def files_of(record: Record) -> list[str]:
    """Name the files of the results; of those in parts, the folder."""
    names = (output.name for output in record.outputs)
    return [*dict.fromkeys(name[: name.find("/") + 1] or name for name in names), RECORD]


def costs(record: Record) -> list[tuple[str, ...]]:
    """Tell what each stage cost, as `COST_COLUMNS` say."""
    return [
        (
            cost.stage,
            f"{cost.seconds:.1f} s",
            f"{cost.cells_per_second:,.0f}",
            f"{cost.peak_memory_bytes / 1e9:.2f} GB",
            f"{cost.made:,}",
            f"{cost.cached:,}",
        )
        for cost in record.stages
    ]
