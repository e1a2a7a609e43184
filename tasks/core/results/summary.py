"""What a person wants to know of a finished run, in sentences and as a page of Markdown.

Names and reasons that come from a dataset are escaped: on the page they are text and nothing else.
"""

import re
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any

from tasks.core.model.drift import Drift
from tasks.core.results.findings import CLUSTER
from tasks.core.results.history import HISTORY_PICTURE
from tasks.core.results.pictures import EMBEDDING, SCREE
from tasks.core.results.record import RECORD, ApplyRecord, Record, RunRecord

_FIRST_COMPONENTS = 10
_MOST_CLUSTERS = 20
_MOST_ROWS = 25
_LONGEST_TEXT = 300
COST_COLUMNS = ("stage", "time", "cells/s", "peak memory", "made", "found")
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


def summary(record: Record, locate: Callable[[str], str], picture: Callable[[str], str]) -> str:
    """Write the page.

    Args:
        record: of the run.
        locate: gives the full path or URL of a file of the results, to be read.
        picture: gives the URL of a picture among them, to be shown.
    """
    parts = [
        "\n".join(f"- {as_text(sentence)}" for sentence in what_to_know(record)),
        _table(["what ran", ""], [(name, as_text(value)) for name, value in what_ran(record)]),
        *(_fitted(record, picture) if isinstance(record, RunRecord) else []),
        *(_applied(record) if isinstance(record, ApplyRecord) else []),
        *_left_out(record),
        "## Results\n\n" + "\n".join(f"- {as_text(locate(name))}" for name in files_of(record)),
        "## Cost\n\n" + _table(COST_COLUMNS, costs(record), right=5),
    ]
    return "\n\n".join(parts) + "\n"


def _fitted(record: RunRecord, picture: Callable[[str], str]) -> list[str]:
    return [
        f"## Variance\n\n![scree plot]({picture(SCREE)})",
        _variance(record.svd["components"]),
        f"## Clusters\n\n![cells by cluster]({picture(EMBEDDING)})",
        _clusters(record.clustering),
        *_series(record, picture),
    ]


def _applied(record: ApplyRecord) -> list[str]:
    return ["## Clusters\n\n" + _clusters(record.clusters)]


def as_text(value: object) -> str:
    """Escape what came from elsewhere, so that Markdown shows it as one line of text."""
    return _PUNCTUATION.sub(r"\\\1", one_line(value))


def one_line(value: object) -> str:
    """Give what came from elsewhere as one line of bounded length, without what cannot be seen."""
    line = " ".join(str(value).split())
    short = line if len(line) <= _LONGEST_TEXT else f"{line[:_LONGEST_TEXT]}..."
    return "".join(filter(str.isprintable, short))


def what_ran(record: Record) -> list[tuple[str, object]]:
    """Name the data and the main settings of a run; some come from elsewhere and are yet to be escaped."""
    asked = ("model", "recipe", "where", "pca_dim", "clusters", "seed", "series")
    return [
        ("dataset", record.dataset["name"]),
        ("revision", record.dataset["revision"]),
        ("cells", f"{record.read['cells']:,} in {record.read['partitions']:,} partitions"),
        ("genes", f"{record.read['genes']:,}"),
        *((name, record.settings[name]) for name in asked if record.settings.get(name) is not None),
    ]


def _variance(components: Sequence[dict[str, Any]]) -> str:
    ratios = [component["explained_variance_ratio"] for component in components]
    rows = [
        (
            component["pc"],
            f"{component['singular_value']:.5g}",
            f"{component['residual']:.1e}",
            "yes" if component["settled"] else "**no**",
            f"{100 * ratio:.3f} %",
            f"{100 * so_far:.2f} %",
        )
        for component, ratio, so_far in zip(components[:_FIRST_COMPONENTS], ratios, accumulate(ratios), strict=False)
    ]
    shown = _table(
        ["component", "singular value", "residual", "settled", "of the variance", "cumulative"], rows, right=5
    )
    return f"{shown}\n\nAll {len(ratios):,} components explain {100 * sum(ratios):.2f} % of the variance of all genes."


def _clusters(of: dict[str, Any]) -> str:
    cells = dict(zip(of["names"], of["sizes"], strict=True))
    total = max(sum(cells.values()), 1)
    largest = sorted(sorted(cells, key=lambda name: -cells[name])[:_MOST_CLUSTERS])
    rows = [(f"{name}", f"{cells[name]:,}", f"{100 * cells[name] / total:.1f} %") for name in largest]
    if others := len(cells) - len(rows):
        rest = total - sum(cells[name] for name in largest)
        rows.append((f"{others:,} smaller ones", f"{rest:,}", f"{100 * rest / total:.1f} %"))
    return _table(["cluster", "cells", "share"], rows, right=2)


def _series(record: RunRecord, picture: Callable[[str], str]) -> list[str]:
    if record.series is None:
        return []
    shown = f"## Series\n\n![runs of the series]({picture(HISTORY_PICTURE)})"
    return [shown] if record.series.drift is None else [shown, _drift(record.series.drift)]


def _drift(drift: Drift) -> str:
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
    return _table(["what", "the run before", "now"], rows, right=2)


def _left_out(record: Record) -> list[str]:
    parts = []
    if record.bad_data:
        bad = [(as_text(at.shard), f"{at.row:,}", f"{at.rows:,}", as_text(at.reason)) for at in record.bad_data]
        parts.append("## Skipped data\n\n" + _table(["shard", "row", "rows", "reason"], bad))
    if record.skipped:
        columns = [(as_text(what), as_text(why)) for what, why in record.skipped.items()]
        parts.append("## Left out of the tables\n\n" + _table(["what", "reason"], columns))
    if record.damaged:
        parts.append(
            "## Damage that was repaired\n\n" + _table(["what"], [(as_text(what),) for what in record.damaged])
        )
    return parts


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


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], right: int = 0) -> str:
    """Lay out a table, its last columns to the right; of a long one the first rows."""
    rule = ["---"] * (len(head) - right) + ["---:"] * right
    lines = [f"| {' | '.join(row)} |" for row in (head, rule, *rows[:_MOST_ROWS])]
    if len(rows) > _MOST_ROWS:
        lines += ["", f"And {len(rows) - _MOST_ROWS:,} more: {RECORD} has them."]
    return "\n".join(lines)
