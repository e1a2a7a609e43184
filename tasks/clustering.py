"""Stages: cluster the embedded cells with K-means, or label them with clusters that are known."""

from collections.abc import Sequence

from tasks.core.base.settings import RunSettings, Settings
from tasks.core.model import fit_kmeans, label
from tasks.core.references.model import Clustering, Clusters, Embedding, Fitted, Labels, Model
from tasks.core.storage.store import Outcome, store_of
from tasks.stage import stage


@stage(name="clustering", task_run_name="fit K-means, {clusters} clusters")
def cluster(
    partitions: Sequence[Embedding], model: Model, clusters: int, settings: Settings, start: Fitted | None
) -> Outcome[Clustering]:
    """Find the centres, pass by pass over the embedding, and label every cell."""
    return fit_kmeans.fit_kmeans(store_of(settings), partitions, model, clusters, settings, start)


@stage(name="labels")
def label_cells(partitions: Sequence[Embedding], clusters: Clusters, settings: RunSettings) -> Outcome[Labels]:
    """Label every cell with the nearest of centres that stay where they are."""
    return label.label_cells(store_of(settings), partitions, clusters, settings)
