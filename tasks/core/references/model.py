"""What the stages hand to each other of a model: what was fitted, and what it makes of cells."""

from tasks.core.references.cells import GeneOrder
from tasks.core.storage.store import ObjectRef, Reference


class ChosenGenes(Reference):
    """The genes that the components are of.

    Attributes:
        order: their columns; -1 of a gene that is left out.
        table: object with a row a gene of the vocabulary: whether it is chosen, and the statistics it was chosen by.
    """

    key: str
    order: GeneOrder
    table: ObjectRef


class Components(Reference):
    """What cells are projected on.

    Attributes:
        components: object with the (genes, k) singular vectors, float32, in the vocabulary's order; zeros for genes
            that were left out.
        centre: (k,) the mean cell in the components, which is taken off where a fit was centred.
    """

    key: str
    components: ObjectRef
    centre: tuple[float, ...] = ()


class Model(Components):
    """Truncated SVD of all partitions, or their PCA.

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


class Corrected(Reference):
    """The embedding without the differences between batches.

    Attributes:
        embeddings: of each partition.
        batches: that the cells came in.
        rounds: of correction.
        settled: whether the last round changed little.
    """

    key: str
    embeddings: tuple[Embedding, ...]
    batches: tuple[str, ...]
    rounds: int
    settled: bool


class Named(Reference):
    """Clusters by name.

    Attributes:
        names: ascending; in a series of runs a cluster keeps its name.
    """

    key: str
    names: tuple[int, ...]


class Clusters(Named):
    """Cluster centres, in the order of their names.

    Attributes:
        centres: object with the (clusters, k) centres, float64.
    """

    centres: ObjectRef


class Assigned(Named):
    """The cells of each cluster.

    Attributes:
        labels: of each partition, an object with the cluster of each cell, by its place among the names.
        sizes: cells of each cluster.
    """

    labels: tuple[ObjectRef, ...]
    sizes: tuple[int, ...]


class Communities(Assigned):
    """Leiden's clusters: communities of a graph of cells.

    Attributes:
        nodes: cells of the graph; the others joined the communities of those that they are near to.
        modularity: of the partition of the graph.
    """

    nodes: int
    modularity: float


class Labels(Clusters, Assigned):
    """Cluster centres, and the cells nearest to each.

    Attributes:
        inertia: sum of the squared distances of the cells to their centres.
    """

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


class Exported(Reference):
    """Files of the results, by their places in the output; None where there are none yet."""

    # Not an empty tuple, of which there is one in all of Python: Prefect would take it for this result elsewhere.
    outputs: tuple[Output, ...] | None


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
