"""What the stages hand to each other of a model: what was fitted, and what it makes of cells."""

from tasks.core.references.cells import GeneOrder
from tasks.core.storage.store import ObjectRef, Reference


class Components(Reference):
    """What cells are projected on.

    Attributes:
        components: object with the (genes, k) singular vectors, float32, in the vocabulary's order.
    """

    key: str
    components: ObjectRef


class Model(Components):
    """Truncated SVD of all partitions.

    Attributes:
        singular_values: (k,) descending; zeros past the rank, as their components.
        residuals: (k,) `||X^T X v - s^2 v|| / s^2`.
        settled: (k,) whether the residual is within the tolerance.
        variances: (k,) variance of each column of the embedding.
        explained_variance_ratio: (k,) the same over the summed variance of all genes.
        rank: leading components that are data; past it, there is nothing but rounding.
    """

    singular_values: tuple[float, ...]
    residuals: tuple[float, ...]
    settled: tuple[bool, ...]
    variances: tuple[float, ...]
    explained_variance_ratio: tuple[float, ...]
    passes: int
    rank: int

    @property
    def shortcomings(self) -> list[str]:
        """What a reader of the results must know, a sentence each."""
        unsettled, beyond = self.settled.count(False), len(self.settled) - self.rank
        told = []
        if unsettled:
            told.append(
                f"{unsettled:,} components did not settle to the svd_tolerance within {self.passes:,} passes: "
                "components.csv has their residuals; a higher svd_max_passes gives them more"
            )
        if beyond:
            told.append(f"the last {beyond:,} components are beyond the rank of the matrix, and zeros")
        return told


class Embedding(Reference):
    """A partition's cells in the components: one object of shape (cells, k)."""

    key: str
    origin: str
    cells: int
    table: ObjectRef


class Clusters(Reference):
    """Cluster centres.

    Attributes:
        centres: object with the (clusters, k) centres, float64.
        names: of each centre, ascending; in a series of runs a cluster keeps its name.
    """

    key: str
    centres: ObjectRef
    names: tuple[int, ...]


class Labels(Clusters):
    """Cluster centres, and the cells nearest to each.

    Attributes:
        labels: of each partition, an object with the centre of each cell, by number.
        sizes: cells of each centre.
        inertia: sum of the squared distances of the cells to their centres.
    """

    labels: tuple[ObjectRef, ...]
    sizes: tuple[int, ...]
    inertia: float


class Clustering(Labels):
    """Cluster centres that were fitted to the cells they label.

    Attributes:
        named: names given so far in the series, vanished clusters' included.
    """

    named: int
    passes: int
    settled: bool


class Fitted(Reference):
    """What a run has learnt, for the next run of its series to begin from.

    Attributes:
        vocabulary: key of the genes.
        shards: fingerprint of each shard, by name.
        cells: keys of the partitions as they were streamed.
    """

    vocabulary: str
    shards: dict[str, str]
    cells: tuple[str, ...]
    order: GeneOrder
    model: Model
    clustering: Clustering


class Output(Reference):
    """One file of the results."""

    name: str
    size: int
    sha256: str


class SavedModel(Reference):
    """The output of an earlier run as its record describes it; its files are yet to be read.

    Attributes:
        dataset: that it was fitted to.
        components: its file of them, `pca_dim` many.
    """

    url: str
    record_sha256: str
    dataset: str
    revision: str
    pca_dim: int
    components: Output
    clusters: Output
