"""Stages: find the model that an earlier run left, and load what it is made of."""

from tasks.core.base.settings import ApplySettings
from tasks.core.references.cells import Vocabulary
from tasks.core.references.model import Clusters, Components, SavedModel
from tasks.core.results import saved_model
from tasks.core.storage.store import Outcome, store_of
from tasks.stage import stage


@stage(name="model")
def find_model(settings: ApplySettings) -> SavedModel:
    """Read what the earlier run's record says of its model, and check that it may be applied."""
    return saved_model.find_model(settings)


@stage(name="components")
def load_components(model: SavedModel, vocabulary: Vocabulary, settings: ApplySettings) -> Outcome[Components]:
    """Load the model's components, in the order of the dataset's genes."""
    return saved_model.load_components(store_of(settings), model, vocabulary, settings)


@stage(name="clusters")
def load_clusters(model: SavedModel, settings: ApplySettings) -> Outcome[Clusters]:
    """Load the model's cluster centres."""
    return saved_model.load_clusters(store_of(settings), model, settings)
