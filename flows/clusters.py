"""From the components to the clusters, and to what they mean."""

from flows.stages import Stages
from tasks.clustering import cluster
from tasks.core.base.recipes import NONE
from tasks.core.base.settings import Settings
from tasks.core.references.cells import Vocabulary
from tasks.core.references.model import Embedding, Fitted, Model
from tasks.core.results.findings import Clustered, Embedded, Insights, Matrix
from tasks.correction import correct_batches
from tasks.insight import find_communities, find_markers, judge, map_cells


def corrected(run: Stages, matrix: Matrix, components: list[Embedding], settings: Settings) -> Embedded:
    """Correct the cells in the components for their batches, where the recipe asks for it."""
    if settings.recipe_in_full.correction == NONE:
        return Embedded(components, None)
    return Embedded(components, run.one(correct_batches, matrix.cells, components, settings))


def clustered(run: Stages, embedded: Embedded, model: Model, settings: Settings, start: Fitted | None) -> Clustered:
    """Cluster the cells by K-means, and by Leiden where the recipe asks for it."""
    cells = embedded.embeddings
    first, *more = settings.cluster_numbers
    clustering = run.one(cluster, cells, model, first, settings, start)
    others = [run.one(cluster, cells, model, number, settings, None) for number in more]
    communities = run.one(find_communities, cells, settings) if settings.recipe_in_full.leiden else None
    return Clustered(clustering, others, communities)


def insights(
    run: Stages, genes: Vocabulary, matrix: Matrix, embedded: Embedded, clusters: Clustered, settings: Settings
) -> Insights:
    """Find what the clusters mean, as far as the recipe asks for it."""
    recipe, cells = settings.recipe_in_full, embedded.embeddings
    to_score = recipe.compared or recipe.batch_column or clusters.others
    return Insights(
        markers=run.one(find_markers, matrix.normalized, matrix.order, genes, clusters.clustering, settings)
        if recipe.markers
        else None,
        cell_map=run.one(map_cells, cells, settings) if recipe.layout != NONE else None,
        scores=run.one(judge, matrix.cells, embedded.components, cells, clusters.by_column, settings)
        if to_score
        else None,
    )
