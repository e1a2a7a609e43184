"""Leiden communities of cells, found on the neighbour graph of K-means microclusters.

A graph of cells grows with the cells; one of some thousand microclusters does not. Each microcluster is linked to its
nearest ones by UMAP's fuzzy connectivity, times the geometric mean of the two sizes: so the weight of a microcluster
in the graph, and what modularity expects of it, grows as its cells do, as it would if each of its cells had had its
own links. Links within a microcluster are left out: there would be more of them the more cells there are, and with them
what a resolution gives.
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock

import numpy as np
import scipy.sparse as sp
from sklearn.neighbors import NearestNeighbors

from tasks.core.base.errors import SettingsError
from tasks.core.numerics.block import Float64Array, IntArray, NumberArray
from tasks.core.numerics.block_kmeans import BlockKMeans
from tasks.core.numerics.fold import Blocks, one_blas_thread
from tasks.core.numerics.lloyd import assign
from tasks.core.numerics.neighbours import scaled_to
from tasks.core.numerics.sample import draw, take

_MOST_MICROCLUSTERS = 2_000
_CELLS_A_MICROCLUSTER = 10
_PASSES = 2
_NEIGHBOURS = 15
# igraph has one random number generator for all threads.
_RANDOM = Lock()


@dataclass(frozen=True)
class Communities:
    """Communities of microclusters.

    Attributes:
        centres_mk: of the microclusters.
        sizes_m: cells of each.
        labels_m: community of each, the largest by cells 0.
        modularity: of the partition of the graph of microclusters.
    """

    centres_mk: Float64Array
    sizes_m: IntArray
    labels_m: IntArray
    modularity: float

    def __len__(self) -> int:
        return int(self.labels_m.max()) + 1

    def label(self, z_nk: NumberArray) -> IntArray:
        """Give each cell of a block the community of its nearest microcluster, (cells,)."""
        return self.labels_m[assign(z_nk, self.centres_mk)[0]]


def leiden(
    blocks: Blocks[NumberArray], resolution: float = 1.0, seed: int = 0, microclusters: int | None = None
) -> Communities:
    """Find communities that maximize modularity (Traag et al. 2019), in three passes over the embedding and a draw.

    Args:
        blocks: the embedding, (cells, components).
        resolution: the higher, the more communities.
        seed: of the microclusters and of the search.
        microclusters: how many; by default one for ten cells, and 2,000 at most.

    Raises:
        SettingsError: more microclusters than cells.
    """
    cells = sum(blocks.rows)
    wanted = microclusters or min(max(cells // _CELLS_A_MICROCLUSTER, 1), _MOST_MICROCLUSTERS)
    if wanted > cells:
        raise SettingsError(f"microclusters={wanted:,} must be at most the cells, {cells:,}")
    # K-means of thousands of clusters costs too much on a sample; cells drawn evenly and a few passes do.
    start = take(blocks, draw(blocks.rows, wanted, np.random.default_rng(seed)))
    kmeans = BlockKMeans(wanted, init=start, max_iter=_PASSES, sample_size=wanted, random_state=seed).fit(blocks)
    occupied = kmeans.cluster_sizes_ > 0
    centres_mk, sizes_m = kmeans.cluster_centers_[occupied], kmeans.cluster_sizes_[occupied]
    labels_m, modularity = _communities(links(centres_mk, sizes_m), resolution, seed)
    return Communities(centres_mk, sizes_m, by_size(labels_m, sizes_m), modularity)


def links(centres_mk: Float64Array, sizes_m: IntArray) -> sp.coo_array:
    """Weigh the links of microclusters: the upper triangle of a symmetric (m, m) matrix."""
    microclusters = len(centres_mk)
    neighbours = min(_NEIGHBOURS, microclusters - 1)
    if neighbours < 1:
        return sp.coo_array((microclusters, microclusters))
    with one_blas_thread():
        distances_mj, which_mj = (
            NearestNeighbors(n_neighbors=neighbours, algorithm="brute").fit(centres_mk).kneighbors()
        )
    near_mj = scaled_to(
        np.log2(neighbours + 1), lambda weights: weights.sum(axis=1), distances_mj - distances_mj[:, :1]
    )
    rows = np.repeat(np.arange(microclusters), neighbours)
    one_way = sp.csr_array((near_mj.ravel(), (rows, which_mj.ravel())), shape=(microclusters, microclusters))
    either_way = sp.triu(one_way + one_way.T - one_way * one_way.T, 1).tocoo()
    root_m = np.sqrt(sizes_m)
    weights = either_way.data * root_m[either_way.row] * root_m[either_way.col]
    return sp.coo_array((weights, (either_way.row, either_way.col)), shape=either_way.shape)


def by_size(labels_m: IntArray, sizes_m: IntArray) -> IntArray:
    """Give labels new numbers by their summed sizes, from the largest on, the first of equals before the others."""
    names, positions_m = np.unique(labels_m, return_inverse=True)
    order = np.argsort(-np.bincount(positions_m, weights=sizes_m), kind="stable")
    rank = np.empty(len(names), np.int64)
    rank[order] = np.arange(len(names))
    return rank[positions_m]


def _communities(weights: sp.coo_array, resolution: float, seed: int) -> tuple[IntArray, float]:
    import igraph  # noqa: PLC0415  (slow, and not all need it)

    graph = igraph.Graph(n=weights.shape[0], edges=list(zip(weights.row.tolist(), weights.col.tolist(), strict=True)))
    of_links = weights.data.tolist()
    with _seeded(seed):
        found = graph.community_leiden(
            objective_function="modularity", weights=of_links, resolution=resolution, n_iterations=-1
        )
    return np.array(found.membership), float(graph.modularity(found.membership, weights=of_links) if of_links else 0.0)


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    import igraph  # noqa: PLC0415

    with _RANDOM:
        igraph.set_random_number_generator(random.Random(seed))  # noqa: S311  (no secret)
        try:
            yield
        finally:
            igraph.set_random_number_generator(random)
