"""Stages: what clusters mean: communities beside them, their marker genes, a map, and how good they are."""

from collections.abc import Sequence

from tasks.core.base.settings import Settings
from tasks.core.model import find_communities as communities
from tasks.core.model import find_markers as markers
from tasks.core.model import judge as judgement
from tasks.core.model import map_cells as layout
from tasks.core.references.cells import Cells, GeneOrder, Normalized, Vocabulary
from tasks.core.references.insight import CellMap, Markers, Scores
from tasks.core.references.model import Assigned, Communities, Embedding
from tasks.core.storage.store import Outcome, store_of
from tasks.stage import stage


@stage(name="leiden", task_run_name="find Leiden communities")
def find_communities(embeddings: Sequence[Embedding], settings: Settings) -> Outcome[Communities]:
    """Find communities of the cells of all partitions, and label every cell."""
    return communities.find_communities(store_of(settings), embeddings, settings)


@stage(name="markers", task_run_name="find marker genes")
def find_markers(
    normalized: Sequence[Normalized], order: GeneOrder, vocabulary: Vocabulary, clusters: Assigned, settings: Settings
) -> Outcome[Markers]:
    """Compare the genes of each cluster with those of all other cells."""
    return markers.find_markers(store_of(settings), normalized, order, vocabulary, clusters, settings)


@stage(name="map", task_run_name="map a sample of the cells")
def map_cells(embeddings: Sequence[Embedding], settings: Settings) -> Outcome[CellMap]:
    """Lay out a sample of the cells in two dimensions."""
    return layout.map_cells(store_of(settings), embeddings, settings)


@stage(name="scores", task_run_name="score clusters")
def judge(
    cells: Sequence[Cells],
    components: Sequence[Embedding],
    embeddings: Sequence[Embedding],
    clusterings: dict[str, Assigned],
    settings: Settings,
) -> Outcome[Scores]:
    """Score each clustering by itself and against the compared columns."""
    of = judgement.Judged(cells, components, embeddings, clusterings)
    return judgement.judge(store_of(settings), of, settings)
