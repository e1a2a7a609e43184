"""A map of cells in two dimensions: UMAP of a sample, and the other cells placed among its cells."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from tasks.core.base.errors import SettingsError
from tasks.core.numerics.block import Float32Array, FloatArray, NumberArray
from tasks.core.numerics.neighbours import nearest, shares

# More cells hide each other on a picture, and the map takes a millisecond a cell, after some seconds of compiling.
MOST_CELLS = 5_000
# As scanpy's `pp.neighbors` and `tl.umap`.
NEIGHBOURS, MIN_DIST = 15, 0.5
_NEIGHBOURS_TO_PLACE = 5
# With fewer there are no neighbourhoods to speak of, and no spectrum to start from.
_FEWEST_CELLS = 8


def umap_layout(z_nk: FloatArray, seed: int) -> Float32Array:
    """Lay out cells in two dimensions by UMAP (McInnes 2018), by their exact nearest neighbours.

    The same bytes each time: it works on one thread. Fewer than eight cells are laid out by their first two
    components.

    Args:
        z_nk: (n, k) cells in the components, finite, at most `MOST_CELLS` for an answer in ten seconds.
        seed: of the layout.

    Returns:
        (n, 2) coordinates.
    """
    if len(z_nk) < _FEWEST_CELLS:
        return _first_two(z_nk)
    with _without_idle_warnings():
        from umap import UMAP  # noqa: PLC0415  (takes seconds, and compiles)

        neighbours = min(NEIGHBOURS, len(z_nk) - 1)
        known = nearest(z_nk, z_nk, neighbours)
        # umap's own search is approximate and compiles for half a minute.
        umap = UMAP(n_neighbors=neighbours, min_dist=MIN_DIST, random_state=seed, n_jobs=1, precomputed_knn=known)
        laid_out: Float32Array = umap.fit_transform(z_nk.astype(np.float32)).astype(np.float32)
    return laid_out


def place_among(z_nk: NumberArray, sample_mk: NumberArray, layout_m2: Float32Array) -> Float32Array:
    """Place cells on a sample's map: each at the weighted mean of its five nearest cells of the sample.

    A cell of the sample itself keeps its place. Weights fall with the distance; a cell is never far from its nearest.

    Args:
        z_nk: (n, k) cells.
        sample_mk: (m, k) cells of the sample.
        layout_m2: (m, 2) their coordinates.

    Returns:
        (n, 2) coordinates.

    Raises:
        SettingsError: there is no sample.
    """
    if not len(sample_mk):
        raise SettingsError("cells cannot be placed on a map of 0 cells: it takes 1 at least")
    near_nj, far_nj = nearest(z_nk, sample_mk, min(_NEIGHBOURS_TO_PLACE, len(sample_mk)))
    placed: Float32Array = np.einsum("nj,njd->nd", shares(far_nj), layout_m2[near_nj]).astype(np.float32)
    return placed


def _first_two(z_nk: FloatArray) -> Float32Array:
    layout = np.zeros((len(z_nk), 2), np.float32)
    layout[:, : z_nk.shape[1]] = z_nk[:, :2]
    return layout


@contextmanager
def _without_idle_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        # A network that nobody asks for needs Tensorflow.
        warnings.filterwarnings("ignore", "Tensorflow not installed", ImportWarning)
        # Nothing is placed on the map by umap itself later.
        warnings.filterwarnings("ignore", r"precomputed_knn\[2\]", UserWarning)
        # Clusters that lie apart are what one hopes for.
        warnings.filterwarnings("ignore", "Graph is not fully connected", UserWarning)
        yield
