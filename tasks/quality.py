"""Stage: leave out the cells of a partition that are of bad quality."""

from tasks.core.base.settings import RunSettings
from tasks.core.dataset import quality_control
from tasks.core.references.cells import Checked, Counted, Vocabulary
from tasks.core.storage.store import Outcome, store_of
from tasks.stage import stage


@stage(name="quality", task_run_name="check quality of {counted.origin}")
def check_quality(counted: Counted, vocabulary: Vocabulary, settings: RunSettings) -> Outcome[Checked]:
    """Measure the cells of one partition, and keep those within the recipe's bounds."""
    recipe = settings.recipe_in_full
    return quality_control.check_quality(store_of(settings), counted, vocabulary, recipe)
