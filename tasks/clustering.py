"""Stages: cluster the embedded cells with K-means, or label them with clusters that are known."""

from tasks.core.base.settings import RunSettings, Settings
from tasks.core.model import fit_kmeans, label
from tasks.core.references.model import Clustering, Clusters, Embedding, Fitted, Labels, Model
from tasks.core.storage.store import store_of
from tasks.stage import Answer, as_state, stage


@stage(name="clustering", task_run_name="fit K-means")
def cluster(
    partitions: list[Embedding], model: Model, clusters: int, settings: Settings, start: Fitted | None
) -> Answer[Clustering]:
    """Find the centres, pass by pass over the embedding, and label every cell."""
    return as_state(fit_kmeans.fit_kmeans(store_of(settings), partitions, model, clusters, settings, start))


@stage(name="labels")
def label_cells(partitions: list[Embedding], clusters: Clusters, settings: RunSettings) -> Answer[Labels]:
    """Label every cell with the nearest of centres that stay where they are."""
    return as_state(label.label_cells(store_of(settings), partitions, clusters, settings))
