"""What the stages hand to each other of what clusters mean: how good they are, their markers, and a map."""

from tasks.core.storage.store import ObjectRef, Reference


class Split(Reference):
    """How well the clusters of one clustering are apart; None where a score is not defined.

    Attributes:
        name: column of the clustering in the table of cells.
        silhouette: of a sample of the cells.
    """

    name: str
    clusters: int
    silhouette: float | None
    calinski_harabasz: float | None
    davies_bouldin: float | None


class Comparison(Reference):
    """How well a clustering agrees with a metadata column.

    Attributes:
        clustering: its column in the table of cells.
        recalls: of each value, the share of its cells in the cluster that it is matched with.
    """

    clustering: str
    column: str
    adjusted_rand_index: float
    normalized_mutual_information: float
    recalls: dict[str, float]


class CrossTable(Reference):
    """Cells of each pair of values of two columns: an object of shape (rows, columns)."""

    row: str
    column: str
    row_values: tuple[str, ...]
    column_values: tuple[str, ...]
    cells: ObjectRef


class Mixing(Reference):
    """How well batches are mixed among the neighbours of a sample of the cells, from 0, apart, to 1.

    Attributes:
        before: in the components.
        after: in the embedding that is clustered.
    """

    batch: str
    before: float | None
    after: float | None


class Scores(Reference):
    """How good the clusters are.

    Attributes:
        compositions: clusters of the first clustering by compared columns.
        batches: batches by compared columns.
        confounding: Cramer's V of the batch with each compared column.
    """

    key: str
    splits: tuple[Split, ...]
    comparisons: tuple[Comparison, ...]
    compositions: tuple[CrossTable, ...]
    batches: tuple[CrossTable, ...]
    confounding: dict[str, float]
    mixing: Mixing | None


class CellMap(Reference):
    """A sample of the cells in two dimensions.

    Attributes:
        places: object with a row a cell of the sample: its partition, its row there, `x` and `y`.
    """

    key: str
    cells: int
    places: ObjectRef


class Markers(Reference):
    """Genes that tell clusters apart.

    Attributes:
        top: object with a row a cluster and gene, the best of each cluster first.
        dots: object with a row a cluster and gene of `top`, whichever cluster's it is: mean and share expressing.
    """

    key: str
    top: ObjectRef
    dots: ObjectRef
