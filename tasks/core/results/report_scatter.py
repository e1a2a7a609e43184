"""Cells of a report as pictures: coloured and marked by a property, with the legend beside them as text.

Takes a second and some tens of megabytes to import: not before there is something to draw.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.markers import MarkerStyle
from matplotlib.path import Path
from matplotlib.patheffects import withStroke

from tasks.core.numerics.block import Float64Array, IntArray, NumberArray
from tasks.core.results.plots import MOST_CLUSTERS, OTHERS, TEN, darker, figure_of, png_of
from tasks.core.results.report_html import Html, text

# As many as a reader can tell apart by colour and mark together.
MOST_CLASSES = 12
_MARKS = "osD^vP"
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_BINS = 20


@dataclass(frozen=True)
class Style:
    """How the cells of one class look: the key on the picture tells what colour and mark alone might not."""

    key: str
    colour: str
    mark: str


@dataclass(frozen=True)
class Colouring:
    """Cells by the value of a property.

    Attributes:
        values: (n,) of the cells.
        styles: of the values that stand out, in the legend's order; the others share a grey.
    """

    values: Sequence[object]
    styles: Mapping[object, Style]

    @property
    def classes(self) -> IntArray:
        """(n,) place of each cell's value among the styles, or -1."""
        places = {value: at for at, value in enumerate(self.styles)}
        return np.array([places.get(value, -1) for value in self.values], np.int64)


def by_cluster(names_n: IntArray) -> Colouring:
    """Colour by cluster, as the other pictures do; its number stands on the picture."""
    values = names_n.tolist()
    both = [*TEN, *map(darker, TEN)]
    frequent = sorted(_frequent(values, MOST_CLUSTERS))
    return Colouring(values, {name: Style(str(name), both[name % len(both)], "o") for name in frequent})


def by_class(values: Sequence[object]) -> Colouring:
    """Colour by the most frequent values of a metadata column; letters stand for them: no font has all names."""
    frequent = _frequent(values, MOST_CLASSES)
    styles = [
        Style(letter, TEN[at % len(TEN)], _MARKS[at % len(_MARKS)])
        for at, letter in zip(range(len(frequent)), _LETTERS, strict=False)
    ]
    return Colouring(values, dict(zip(frequent, styles, strict=True)))


def draw(points_n2: NumberArray, colouring: Colouring, axis_names: tuple[str, str]) -> bytes:
    """Draw cells in two coordinates, in random order so that no class hides another."""
    classes_n = colouring.classes
    styles = list(colouring.styles.values())
    with figure_of(4.2, 3.9) as figure:
        axes = figure.add_axes((0.14, 0.12, 0.82, 0.86))
        _scatter(axes, points_n2, classes_n, styles)
        places_c2 = label_places(points_n2, classes_n, len(styles))
        outlined = [withStroke(linewidth=3.5, foreground="white")]
        for style, (across, up) in zip(styles, places_c2, strict=True):
            axes.text(across, up, style.key, ha="center", va="center", weight="bold", size=11, path_effects=outlined)
        axes.set_xlabel(axis_names[0])
        axes.set_ylabel(axis_names[1])
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


def legend(colouring: Colouring, of: str) -> Html:
    """Tell in text what the colours, marks and keys stand for, with the cells drawn of each."""
    counts = Counter(colouring.values)
    items = [_entry(style, value, counts[value]) for value, style in colouring.styles.items()]
    if rest := len(counts) - len(items):
        cells = sum(counts.values()) - sum(counts[value] for value in colouring.styles)
        items.append(_entry(Style("", OTHERS, "o"), f"{rest:,} others", cells))
    return Html(f'<ul class="key-list" aria-label="Legend: {text(of)}">{"".join(items)}</ul>')


def _entry(style: Style, name: object, cells: int) -> str:
    corners = np.asarray(_outline(style.mark).to_polygons()[0])
    # The unit of a mark is its width; up is down in SVG.
    outline = " ".join(f"{9 + 13 * x:.1f},{9 - 13 * y:.1f}" for x, y in corners)
    named = text(name) if style.key in ("", str(name)) else f"<b>{text(style.key)}</b>{text(name)}"
    return (
        f'<li><svg width="18" height="18" aria-hidden="true"><polygon points="{outline}" fill="{style.colour}"/></svg>'
        f"{named} <span>({cells:,})</span></li>"
    )


def _scatter(axes: Axes, points_n2: NumberArray, classes_n: IntArray, styles: Sequence[Style]) -> None:
    order = np.random.default_rng(len(points_n2)).permutation(len(points_n2))
    # What does not stand out lies below.
    order = order[np.argsort(classes_n[order] >= 0, kind="stable")]
    colours = np.array([*(style.colour for style in styles), OTHERS])
    shown = axes.scatter(
        points_n2[order, 0],
        points_n2[order, 1],
        s=float(np.clip(24_000 / max(len(order), 1), 3.0, 14.0)),
        c=colours[classes_n[order]].tolist(),
        linewidths=0,
    )
    outlines = [_outline(style.mark) for style in [*styles, Style("", OTHERS, "o")]]
    shown.set_paths([outlines[at] for at in classes_n[order]])
    axes.margins(0.04)


def _outline(mark: str) -> Path:
    style = MarkerStyle(mark)
    return style.get_path().transformed(style.get_transform())


def _frequent(values: Sequence[Any], most: int) -> list[Any]:
    counts = Counter(values)
    return sorted(counts, key=lambda value: (-counts[value], str(value)))[:most]
