"""The table of a benchmark: what is promised, what was measured."""

import os
import platform
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Measured = dict[str, Any]


@dataclass(frozen=True)
class Row:
    """A promise, what was measured, and whether it was kept."""

    what: str
    measured: str
    promised: str
    kept: bool


def render(measured: Measured) -> str:
    """Everything as text: the promises, the accuracies, the costs, the curve."""
    return "\n".join(
        [
            f"{describe_machine()}; simulated cells, "
            f"{measured['components']} components, {measured['clusters']} clusters; medians of {measured['rounds']}",
            "",
            *table_of_rows(promises(measured)),
            "",
            *table(
                ["SVD alone, 20,000 cells", "wall s", "CPU s", "peak MB", "worst error of s"],
                _svd_rows(measured),
            ),
            "",
            *table(["blocks on disk", "bytes / nonzero", "M nonzeros/s read"], _encoding_rows(measured)),
            "",
            *table(
                ["command", "cells", "wall s", "CPU s", "peak MB", "worst error of a ratio"], _command_rows(measured)
            ),
            "",
            *table(["cells", "cells/s", *_stage_names(measured)], _curve_rows(measured)),
        ]
    )


def promises(measured: Measured) -> list[Row]:
    """What the project promises, where this run measured it."""
    return [*_decode_rows(measured), *_svd_promises(measured), *_script_promises(measured), *_large_promises(measured)]


def table_of_rows(rows: Sequence[Row]) -> list[str]:
    """Rows as lines of text."""
    return table(["what", "measured", "promised", ""], [cells_of(row) for row in rows])


def describe_machine() -> str:
    """What the figures are of."""
    cores = len(os.sched_getaffinity(0))
    return f"{platform.machine()}, {cores} cores, Python {platform.python_version()}"


def in_turn(ways: Mapping[str, Callable[[], Measured]], rounds: int) -> dict[str, list[Measured]]:
    """Measure each way so many times, one after the other, so that a busy moment of the machine meets all of them."""
    measured: dict[str, list[Measured]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            measured[name].append(way())
            print(f"  {name}: {measured[name][-1]['wall_seconds']:.1f} s", flush=True)
    return measured


def median(figures: Sequence[Measured], name: str) -> float:
    """Median over the rounds."""
    return float(statistics.median(figure[name] for figure in figures))


def ratio(slow: Sequence[Measured], fast: Sequence[Measured]) -> float:
    """How many times as long the one takes as the other, by medians."""
    return median(slow, "wall_seconds") / median(fast, "wall_seconds")


def at_least(what: str, measured: float, promised: float, unit: str = "times") -> Row:
    """A row of what is to be no less than promised."""
    return Row(what, f"{measured:.3g} {unit}".strip(), f"at least {promised:g}", measured >= promised)


def at_most(what: str, value: float, unit: str, promised: float) -> Row:
    """A row of what is to be no more than promised."""
    return Row(what, f"{value:.2f} {unit}".strip(), f"at most {promised:g}", value <= promised)


def _decode_rows(measured: Measured) -> list[Row]:
    of = measured["decode"]
    what = "decode, shard to CSR, one core, against"
    return [
        at_least(f"{what} iterating rows as dicts", ratio(of["decode_dicts"], of["decode"]), 15),
        at_least(f"{what} rows as dicts to CSR", ratio(of["decode_dicts_to_csr"], of["decode"]), 15),
    ]


def _svd_promises(measured: Measured) -> list[Row]:
    of = measured["svd"]
    peers = {"sklearn": "TruncatedSVD(n_iter=5)", "scanpy": "scanpy's pca(zero_center=False)"}
    return [
        at_least(f"SVD alone, 20,000 cells, against {peers[peer]}", ratio(of[peer], of["ours"]), 4)
        for peer in peers
        if peer in of
    ]


def _script_promises(measured: Measured) -> list[Row]:
    promised = {"20000": (2.5, 1.5), "80000": (4.0, 3.0)}
    rows = []
    for cells, of in measured["commands"].items():
        if "script" in of:
            what = f"whole command, {int(cells):,} cells, against the script"
            with_server, temporary = promised[cells]
            rows.append(
                at_least(f"{what}; a server is running", ratio(of["script"], of["flow_with_server"]), with_server)
            )
            rows.append(at_least(f"{what}; temporary server", ratio(of["script"], of["flow"]), temporary))
    return rows


def _large_promises(measured: Measured) -> list[Row]:
    of = {int(cells): figures["flow"] for cells, figures in measured["commands"].items()}
    if not {20_000, 200_000} <= of.keys():
        return []
    small, large = of[20_000], of[200_000]
    peak = {cells: median(of[cells], "peak_bytes") for cells in (20_000, 200_000)}
    added = median(large, "cpu_seconds") - median(small, "cpu_seconds")
    stages = statistics.median(sum(figure["stages"].values()) for figure in large)
    core = median(measured["commands"]["200000"]["without_prefect"], "wall_seconds")
    disk = large[0]["bytes_on_disk"]
    per_nonzero = (disk["matrix"] + disk["normalization"]) / large[0]["nonzeros"]
    return [
        at_most("peak memory of the process tree, 200,000 cells", peak[200_000] / 1e9, "GB", 1.5),
        at_most("the same, beside that at 20,000", peak[200_000] / peak[20_000], "times", 1.15),
        at_most("cost slope, 20,000 to 200,000 cells", added / 180_000 * 1e8 / 3600, "core-hours / 100 M cells", 12),
        at_most("cost of Prefect, 200,000 cells", (stages / core - 1) * 100, "%", 5),
        at_most("packed counts and moments", per_nonzero, "bytes / nonzero", 1.2),
    ]


def _svd_rows(measured: Measured) -> list[list[str]]:
    of = measured["svd"]
    exact = np.array(of["exact"][0]["singular_values"])
    rows = []
    for name, figures in of.items():
        values = np.array(figures[0]["singular_values"])
        error = np.abs(values / exact - 1).max()
        rows.append([name, *_costs(figures), f"{error:.1e}"])
    return rows


def _encoding_rows(measured: Measured) -> list[list[str]]:
    return [
        [f"{kind}: {way['way']}", f"{way['bytes_per_nonzero']:.2f}", f"{way['nonzeros_per_second'] / 1e6:.0f}"]
        for kind in ("counts",)
        for way in measured["encodings"][kind]
    ]


def _command_rows(measured: Measured) -> list[list[str]]:
    exact = np.array(measured["svd"]["exact"][0]["ratios"])
    rows = []
    for cells, of in measured["commands"].items():
        for name, figures in of.items():
            error = "-"
            if cells == "20000" and "ratios" in figures[0]:
                error = f"{np.abs(np.array(figures[0]['ratios']) - exact).max():.1e}"
            rows.append([name.replace("_", " "), f"{int(cells):,}", *_costs(figures), error])
    return rows


def _costs(figures: Sequence[Measured]) -> list[str]:
    return [
        f"{median(figures, 'wall_seconds'):.1f}",
        f"{median(figures, 'cpu_seconds'):.1f}",
        f"{median(figures, 'peak_bytes') / 1e6:.0f}",
    ]


def _stage_names(measured: Measured) -> list[str]:
    first = next(iter(measured["commands"].values()))
    return list(first["flow"][0]["stages"])


def _curve_rows(measured: Measured) -> list[list[str]]:
    rows = []
    for cells, of in measured["commands"].items():
        stages = {
            name: statistics.median(figure["stages"][name] for figure in of["flow"]) for name in _stage_names(measured)
        }
        total = sum(stages.values())
        shares = [f"{seconds / total:.0%}" for seconds in stages.values()]
        rows.append([f"{int(cells):,}", f"{int(cells) / median(of['flow'], 'wall_seconds'):,.0f}", *shares])
    return rows


def cells_of(row: Row) -> list[str]:
    """Give the cells of its line."""
    return [row.what, row.measured, row.promised, "kept" if row.kept else "NOT KEPT"]


def table(head: list[str], rows: list[list[str]]) -> list[str]:
    """Lay out a table, its columns as wide as they need."""
    lines = [head, *rows]
    widths = [max(len(line[at]) for line in lines) for at in range(len(head))]
    return ["  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip() for line in lines]
