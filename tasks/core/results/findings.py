"""What the stages of a run returned, put together: references alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tasks.core.model.series import Continuation, SeriesRun
from tasks.core.references.cells import Cells, Checked, Counted, Counts, GeneOrder, Normalized, Plan, Skipped
from tasks.core.references.insight import CellMap, Markers, Scores
from tasks.core.references.model import (
    Assigned,
    ChosenGenes,
    Clustering,
    Clusters,
    Communities,
    Components,
    Corrected,
    Embedding,
    Labels,
    Model,
    SavedModel,
)

# Columns of the table of cells that hold clusters.
CLUSTER, LEIDEN = "cluster", "leiden"


@dataclass(frozen=True)
class Matrix:
    """What leads to the normalized cells, a matrix in partitions.

    Attributes:
        counted: all cells that were streamed.
        checked: the same, those of bad quality left out; empty where none was to be.
        cells: those of the matrix, whose counts and normalized values follow.
    """

    plan: Plan
    counted: Sequence[Counted]
    checked: Sequence[Checked]
    cells: Sequence[Cells]
    counts: Sequence[Counts]
    order: GeneOrder
    normalized: Sequence[Normalized]
    skipped: tuple[Skipped, ...]


@dataclass(frozen=True)
class Prepared:
    """The matrix that is decomposed.

    Attributes:
        chosen: its genes, and why; None where it has all.
    """

    cells: Sequence[Normalized]
    order: GeneOrder
    chosen: ChosenGenes | None


@dataclass(frozen=True)
class Embedded:
    """The cells in the components.

    Attributes:
        components: as they are projected.
        corrected: without the differences between batches; None where they are left in.
    """

    components: Sequence[Embedding]
    corrected: Corrected | None

    @property
    def embeddings(self) -> Sequence[Embedding]:
        """What is clustered and exported."""
        return self.corrected.embeddings if self.corrected else self.components


@dataclass(frozen=True)
class Clustered:
    """The clusters of a run.

    Attributes:
        clustering: into the first number of clusters asked for.
        others: into the other numbers.
        communities: Leiden's, where asked for.
    """

    clustering: Clustering
    others: list[Clustering]
    communities: Communities | None

    @property
    def by_column(self) -> dict[str, Assigned]:
        """Each clustering by its column in the table of cells, the one that names the clusters first."""
        others = {f"{CLUSTER}_{len(other.names)}": other for other in self.others}
        return {CLUSTER: self.clustering, **others, **({LEIDEN: self.communities} if self.communities else {})}


@dataclass(frozen=True)
class Insights:
    """What the clusters mean; None what was not asked for."""

    markers: Markers | None
    cell_map: CellMap | None
    scores: Scores | None


@dataclass(frozen=True)
class LabelledCells:
    """What the table of cells is made of; partitions in stream order.

    Attributes:
        clusterings: by the name of their column, the one that names the clusters first.
    """

    cells: Sequence[Cells]
    embeddings: Sequence[Embedding]
    clusterings: Mapping[str, Assigned]

    def part(self, of: slice) -> "LabelledCells":
        """Give some of the partitions."""
        labels = {name: one.model_copy(update={"labels": one.labels[of]}) for name, one in self.clusterings.items()}
        return LabelledCells(self.cells[of], self.embeddings[of], labels)


@dataclass(frozen=True)
class Fit:
    """What a run has fitted."""

    matrix: Matrix
    prepared: Prepared
    model: Model
    embedded: Embedded
    clustered: Clustered
    insights: Insights

    @property
    def labelled(self) -> LabelledCells:
        """The cells with their embedding and clusters."""
        return LabelledCells(self.matrix.cells, self.embedded.embeddings, self.clustered.by_column)


@dataclass(frozen=True)
class Findings:
    """All that a run that fitted a model found."""

    fit: Fit
    place: Continuation
    entry: SeriesRun | None


@dataclass(frozen=True)
class Applied:
    """All that a run that applied a model found."""

    matrix: Matrix
    model: SavedModel
    components: Components
    clusters: Clusters
    embeddings: Sequence[Embedding]
    labels: Labels

    @property
    def labelled(self) -> LabelledCells:
        """The cells with their embedding and clusters."""
        return LabelledCells(self.matrix.cells, self.embeddings, {CLUSTER: self.labels})
