"""Pictures of results: arrays in, the bytes of a small PNG out, the same each time.

Takes a second and some tens of megabytes to import: not before there is something to draw.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import BytesIO
from itertools import pairwise
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter
from PIL import Image

from tasks.core.numerics.block import IntArray, NumberArray

BoolArray = npt.NDArray[np.bool_]

# Ten colours that stay apart under every kind of colour blindness (Petroff, arXiv:2107.02270), and the same darker;
# numbers on the picture tell what colours alone do not.
TEN = ["#3f90da", "#ffa90e", "#bd1f01", "#94a4a2", "#832db6", "#a96b59", "#e76300", "#b9ac70", "#717581", "#92dadd"]
INK, _FAINT, OTHERS = "#30343b", "#d5d8dc", "#e3e5e8"
_DOTS_AN_INCH = 110
_PNG_COLOURS = 128
# Measuring what would fit takes matplotlib longer than drawing.
_MARGINS = {"left": 0.1, "right": 0.98, "wspace": 0.28}
# As many clusters as a reader can tell apart; the others share one colour.
MOST_CLUSTERS = 20


def scree(ratios_k: NumberArray, residuals_k: NumberArray, settled_k: BoolArray) -> bytes:
    """Draw what each component explains, and how right it is.

    Args:
        ratios_k: (k,) share of the variance.
        residuals_k: (k,) relative residuals.
        settled_k: (k,) whether the component settled; those that did not stand out.
    """
    pcs = np.arange(1, len(ratios_k) + 1)
    with figure_of(7.4, 3.2) as figure:
        explained, right = figure.subplots(1, 2, gridspec_kw=_MARGINS | {"bottom": 0.24, "top": 0.91})
        _plot_positive(explained, pcs, 100 * ratios_k, color=TEN[0])
        explained.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        explained.yaxis.set_major_formatter("{x:g}")
        explained.yaxis.set_minor_formatter(NullFormatter())
        explained.set_title(f"{len(pcs):,} components explain {100 * ratios_k.sum():.1f} % of the variance")
        explained.set_ylabel("% of the variance")
        _plot_positive(right, pcs[settled_k], residuals_k[settled_k], color=TEN[0], label="settled")
        if not settled_k.all():
            late = {"color": TEN[2], "marker": "x", "label": "not settled"}
            _plot_positive(right, pcs[~settled_k], residuals_k[~settled_k], **late)
            right.legend(frameon=False, ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.18))
        right.set_title(f"{settled_k.sum():,} of {len(pcs):,} components settled")
        right.set_ylabel("relative residual")
        for axes in (explained, right):
            axes.set_xlabel("component")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
        return png_of(figure)


def embedding(points_nk: NumberArray, labels_n: IntArray, sizes: Mapping[int, int], ratios_k: Sequence[float]) -> bytes:
    """Draw cells in their first components, coloured by cluster, beside the clusters' sizes.

    Args:
        points_nk: (n, k) coordinates of some cells; up to four of the components are drawn.
        labels_n: (n,) names of the cells' clusters.
        sizes: cells of each cluster, by its name, of all cells.
        ratios_k: (k,) share of the variance of each component.
    """
    colours = _colours(sizes)
    planes = list(pairwise(range(min(points_nk.shape[1], 4))))[::2] or [(0, 0)]
    with figure_of(7.4, 5.6) as figure:
        grid = figure.add_gridspec(
            2, len(planes), height_ratios=[3.4, 1.3], **_MARGINS, bottom=0.05, top=0.95, hspace=0.33
        )
        scatters = [figure.add_subplot(grid[0, at]) for at in range(len(planes))]
        for axes, (across, up) in zip(scatters, planes, strict=True):
            _scatter(axes, points_nk[:, [across, up]], labels_n, colours)
            axes.set_xlabel(f"pc{across + 1} ({100 * ratios_k[across]:.2f} %)")
            axes.set_ylabel(f"pc{up + 1} ({100 * ratios_k[up]:.2f} %)")
        scatters[0].set_title(f"{len(points_nk):,} of {sum(sizes.values()):,} cells")
        _bars(figure.add_subplot(grid[1, :]), sizes, colours)
        return png_of(figure)


def history(runs_r: IntArray, cells_r: IntArray, explained_r: NumberArray, alike_r2: NumberArray) -> bytes:
    """Draw how the runs of a series went.

    Args:
        runs_r: (r,) number of each run.
        cells_r: (r,) its cells.
        explained_r: (r,) share of the variance that its components explain.
        alike_r2: (r, 2) agreement of its clusters with those of the run before, and overlap of its components with
            those; NaN for a run that is compared with none.
    """
    with figure_of(7.4, 3.2) as figure:
        amounts, alike = figure.subplots(1, 2, gridspec_kw=_MARGINS | {"bottom": 0.24, "top": 0.91})
        amounts.plot(runs_r, cells_r, marker=".", color=TEN[0])
        amounts.set_ylim(0, 1.1 * cells_r.max())
        amounts.yaxis.set_major_formatter("{x:,.0f}")
        amounts.set_title(f"{cells_r[-1]:,} cells; {100 * explained_r[-1]:.1f} % of the variance explained")
        amounts.set_ylabel("cells")
        for values, label, colour in zip(alike_r2.T, ("clusters (adjusted Rand)", "components"), TEN[1:3], strict=True):
            alike.plot(runs_r, values, marker=".", color=colour, label=label)
        alike.set_ylim(-0.03, 1.05)
        alike.set_title("agreement with the run before")
        alike.legend(frameon=False, ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.18))
        for axes in (amounts, alike):
            axes.set_xlabel("run")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
        return png_of(figure)


def _scatter(axes: Axes, points_n2: NumberArray, labels_n: IntArray, colours: Mapping[int, str]) -> None:
    shown = [colours.get(int(label), OTHERS) for label in labels_n]
    axes.scatter(points_n2[:, 0], points_n2[:, 1], s=5, c=shown, linewidths=0)
    axes.margins(0.04)
    for name, colour in colours.items():
        of_cluster = points_n2[labels_n == name]
        if len(of_cluster):
            across, up = np.median(of_cluster, axis=0)
            outlined = [withStroke(linewidth=2.5, foreground="white")]
            style: dict[str, Any] = {"ha": "center", "va": "center", "weight": "bold", "path_effects": outlined}
            axes.text(across, up, str(name), color=darker(colour), **style)


def _bars(axes: Axes, sizes: Mapping[int, int], colours: Mapping[int, str]) -> None:
    bars = [(str(name), sizes[name], colour) for name, colour in colours.items()]
    if others := [size for name, size in sizes.items() if name not in colours]:
        bars.append((f"{len(others):,} others", sum(others), OTHERS))
    names, heights, shown = zip(*bars, strict=True)
    places = np.arange(len(bars))
    drawn = axes.bar(places, heights, color=shown, width=0.8)
    axes.bar_label(drawn, [f"{height:,}" for height in heights], padding=1, fontsize=7)
    axes.set_xticks(places, names)
    axes.set_ylim(0, 1.15 * max(*heights, 1))
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.set_title("cells of each cluster")


def _colours(sizes: Mapping[int, int]) -> dict[int, str]:
    largest = sorted(sorted(sizes, key=lambda name: -sizes[name])[:MOST_CLUSTERS])
    both = [*TEN, *map(darker, TEN)]
    return {name: both[name % len(both)] for name in largest}


def darker(colour: str) -> str:
    """Give a colour, #rrggbb, at three fifths of its light."""
    red, green, blue = (int(colour[at : at + 2], 16) * 3 // 5 for at in (1, 3, 5))
    return f"#{red:02x}{green:02x}{blue:02x}"


def _plot_positive(axes: Axes, x: NumberArray, y: NumberArray, **style: Any) -> None:
    # Zeros, past the rank of the matrix, have no place on a logarithmic axis.
    drawn = y > 0
    axes.plot(x[drawn], y[drawn], **{"marker": ".", "linestyle": "", **style})
    axes.set_yscale("log")


@contextmanager
def figure_of(width: float, height: float) -> Iterator[Figure]:
    """Give a figure of so many inches in this project's style."""
    # Whatever style this machine's user has chosen.
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rc("axes", edgecolor=_FAINT, labelcolor=INK, titlesize=10)
        mpl.rc("axes.spines", top=False, right=False)
        mpl.rc("text", color=INK)
        mpl.rc("font", size=9)
        mpl.rc("xtick", color=INK, labelsize=8.5)
        mpl.rc("ytick", color=INK, labelsize=8.5)
        yield Figure(figsize=(width, height), dpi=_DOTS_AN_INCH)


def png_of(figure: Figure) -> bytes:
    """Draw a figure as a small PNG."""
    drawn, file = BytesIO(), BytesIO()
    figure.savefig(drawn, format="png")
    pixels = Image.open(drawn).convert("RGB")
    # A palette takes a third of the room, and nothing in the file tells when or by what it was made.
    pixels.quantize(_PNG_COLOURS, dither=Image.Dither.NONE).save(file, "png", optimize=True)
    return file.getvalue()
