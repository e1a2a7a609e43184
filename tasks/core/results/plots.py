"""Pictures of results: arrays in, the bytes of a small PNG out, the same each time.

Takes a second and some tens of megabytes to import: not before there is something to draw.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import BytesIO
from string import ascii_lowercase
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter
from PIL import Image

from tasks.core.numerics.block import Float64Array, IntArray, NumberArray

BoolArray = npt.NDArray[np.bool_]
Plane = tuple[tuple[str, str], NumberArray]

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
_LETTERS = ascii_lowercase[:12]
_BINS = 20
_OUTLINED = [withStroke(linewidth=3.5, foreground="white")]


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


def colours_of(values: Sequence[Any]) -> dict[Any, tuple[str, str]]:
    """Give the colour, and what stands on the picture, of the values that stand out; the others share a grey.

    Clusters, which are numbers, keep their colour whatever others there are; for other values letters stand: no font
    has all names.
    """
    counts = Counter(values)
    frequent = sorted(counts, key=lambda value: (-counts[value], str(value)))
    both = [*TEN, *map(_darker, TEN)]
    if all(isinstance(value, int) for value in counts):
        return {name: (both[name % len(both)], str(name)) for name in sorted(frequent[:MOST_CLUSTERS])}
    return dict(zip(frequent, zip(both, _LETTERS, strict=False), strict=False))


def scatter(planes: Sequence[Plane], values: Sequence[Any], colours: Mapping[Any, tuple[str, str]]) -> bytes:
    """Draw cells in planes beside each other, in random order so that no class hides another.

    Args:
        planes: names of two axes, and (n, 2) coordinates of the cells.
        values: (n,) of the cells.
        colours: of the values that stand out, as `colours_of` gives them.
    """
    places = {value: at for at, value in enumerate(colours)}
    classes_n = np.array([places.get(value, -1) for value in values], np.int64)
    order = np.random.default_rng(len(classes_n)).permutation(len(classes_n))
    # What does not stand out lies below.
    order = order[np.argsort(classes_n[order] >= 0, kind="stable")]
    shown = np.array([*(colour for colour, _ in colours.values()), OTHERS])[classes_n[order]].tolist()
    size = float(np.clip(24_000 / max(len(order), 1), 3.0, 14.0))
    with figure_of(4.2 * len(planes), 3.9) as figure:
        for at, ((across, up), points_n2) in enumerate(planes):
            axes = figure.add_axes(((at + 0.15) / len(planes), 0.12, 0.82 / len(planes), 0.86))
            axes.scatter(points_n2[order, 0], points_n2[order, 1], s=size, c=shown, linewidths=0)
            axes.margins(0.04)
            axes.set(xlabel=across, ylabel=up)
            for (_, key), (x, y) in zip(
                colours.values(), label_places(points_n2, classes_n, len(colours)), strict=True
            ):
                axes.text(x, y, key, ha="center", va="center", weight="bold", size=11, path_effects=_OUTLINED)
        return png_of(figure)


def label_places(points_n2: NumberArray, classes_n: IntArray, classes: int) -> Float64Array:
    """Find where on a picture each class is densest among the others: (classes, 2), no two in the same place.

    The median of a class that lies in several places may be where none of its cells is.
    """
    low, span = points_n2.min(axis=0), np.maximum(np.ptp(points_n2, axis=0), 1e-12)
    bins_n2 = np.minimum(((points_n2 - low) / span * _BINS).astype(int), _BINS - 1)
    bins_n = bins_n2[:, 0] * _BINS + bins_n2[:, 1]
    total_b = np.bincount(bins_n, minlength=_BINS**2)
    free_b = np.ones(_BINS**2, bool)
    places_c2 = np.zeros((classes, 2))
    for at in range(classes):
        of_class = classes_n == at
        held_b = np.bincount(bins_n[of_class], minlength=_BINS**2)
        best = int(np.argmax(np.where(free_b, held_b**2 / np.maximum(total_b, 1), 0.0)))
        inside = of_class & (bins_n == best)
        places_c2[at] = points_n2[inside if inside.any() else of_class].mean(axis=0)
        free_b[best] = False
    return places_c2


def histogram(counts_b: IntArray, edges: NumberArray, thresholds: Sequence[float]) -> bytes:
    """Draw counts in bins, equally wide whatever their edges are, and thresholds as dashed lines."""
    bins = np.arange(len(counts_b) + 1.0)
    with figure_of(4.2, 2.0) as figure:
        axes = figure.add_axes((0.04, 0.16, 0.92, 0.72))
        axes.bar(bins[:-1], counts_b, width=0.92, align="edge", color=TEN[0])
        for value, place in zip(thresholds, np.interp(thresholds, edges.astype(float), bins), strict=True):
            axes.axvline(place, color=TEN[2], linestyle="--")
            axes.annotate(f"{value:,g}", (place, 1.02), xycoords=("data", "axes fraction"), ha="center")
        ticks = [0, len(counts_b) // 2, len(counts_b)]
        axes.margins(x=0)
        axes.set_xticks(ticks, [f"{float(edges[at]):,.4g}" for at in ticks])
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
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


def _darker(colour: str) -> str:
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
