"""What a report is made of: plain data, each part there or not."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from tasks.core.numerics.block import IntArray, NumberArray
from tasks.core.results.record import Record

REPORT, SCREE, EMBEDDING = "report.html", "scree.png", "embedding.png"


@dataclass(frozen=True)
class DrawnCells:
    """A sample of the cells.

    Attributes:
        components_nk: (n, k) coordinates in the components; the first four are drawn.
        clusters_n: (n,) names of their clusters.
        metadata: n rows; each column gives a colouring.
        total: cells that the sample was drawn from.
        map_n2: (n, 2) coordinates on a map, if there is one.
        map_name: what the map is, for readers.
    """

    components_nk: NumberArray
    clusters_n: IntArray
    metadata: pl.DataFrame
    total: int
    map_n2: NumberArray | None = None
    map_name: str = "UMAP"


@dataclass(frozen=True)
class CrossTable:
    """How many cells have each pair of values of two properties.

    Attributes:
        row: the one property (the cluster, or the batch key).
        column: the other, a metadata column.
        row_names: (r,) values of the one.
        column_names: (c,) values of the other; None where it is not known.
        counts_rc: (r, c) cells.
    """

    row: str
    column: str
    row_names: Sequence[object]
    column_names: Sequence[object]
    counts_rc: IntArray


@dataclass(frozen=True)
class KChoice:
    """Scores of clusterings into different numbers of clusters.

    Attributes:
        scores: one row a number: `k`, `silhouette`, `calinski_harabasz`, `davies_bouldin`.
        chosen: the number that names the clusters.
    """

    scores: pl.DataFrame
    chosen: int


@dataclass(frozen=True)
class Agreement:
    """How well clusters agree with a metadata column.

    Attributes:
        recall: for each class the share of its cells in the cluster that is matched with it.
        ilisi: how well the column's classes are mixed among neighbours, 0 (apart) to 1 (mixed); None if not computed.
    """

    column: str
    adjusted_rand: float
    nmi: float
    recall: Mapping[Any, float]
    ilisi: float | None = None


@dataclass(frozen=True)
class Markers:
    """Genes that tell clusters apart.

    Attributes:
        top: one row a cluster and gene, the best of each cluster first: `cluster`, `gene`, `cohens_d`,
            `logfoldchanges`, `pvals_adj`, `pct_nz_group`, `pct_nz_reference` (shares, 0 to 1).
        clusters: (c,) clusters of the dots.
        genes: (g,) genes of the dots, as `top` names them; those that are drawn must be among them.
        share_cg: (c, g) share of a cluster's cells that express a gene.
        mean_cg: (c, g) mean expression.
    """

    top: pl.DataFrame
    clusters: Sequence[int]
    genes: Sequence[str]
    share_cg: NumberArray
    mean_cg: NumberArray


@dataclass(frozen=True)
class Histogram:
    """How a measure of quality is distributed over the cells, before any was left out.

    Attributes:
        counts_b: (b,) cells in each bin.
        edges: (b + 1,) of the bins, ascending; drawn equally wide, whatever they are.
        thresholds: lowest and highest values that are kept, where there is a bound.
    """

    measure: str
    counts_b: IntArray
    edges: NumberArray
    thresholds: Sequence[float] = ()


@dataclass(frozen=True)
class Quality:
    """Quality of cells and genes, and what was left out for it.

    Attributes:
        removed: how many were left out for each reason, a phrase such as 'cells with fewer than 200 genes'.
    """

    histograms: Sequence[Histogram] = ()
    removed: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class ReportData:
    """All that a report may tell; what is left empty has no section.

    Attributes:
        compositions: clusters by metadata columns.
        batches: the batch key by metadata columns.
    """

    record: Record
    cells: DrawnCells | None = None
    compositions: Sequence[CrossTable] = ()
    choice: KChoice | None = None
    agreements: Sequence[Agreement] = ()
    batches: Sequence[CrossTable] = ()
    markers: Markers | None = None
    quality: Quality | None = None
