"""Stage: cluster the embedded cells with K-means."""

from prefect.client.schemas.objects import State

from tasks.core import fit_kmeans
from tasks.core.references import Clustering, Embedding
from tasks.core.settings import Settings
from tasks.core.store import store_of
from tasks.stage import as_state, stage


@stage(name="clustering", task_run_name="fit K-means")
def cluster(partitions: list[Embedding], settings: Settings) -> Clustering | State[Clustering]:
    """Find the centres, pass by pass over the embedding, and label every cell."""
    return as_state(fit_kmeans.fit_kmeans(store_of(settings), partitions, settings))
