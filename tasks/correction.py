"""Stage: take the differences between batches out of the embedding."""

from collections.abc import Sequence

from prefect import get_run_logger

from tasks.core.base.settings import Settings
from tasks.core.model import correct_batches as core
from tasks.core.references.cells import Cells
from tasks.core.references.model import Corrected, Embedding
from tasks.core.storage.store import Outcome, store_of
from tasks.stage import stage


@stage(name="correction", task_run_name="correct batches")
def correct_batches(cells: Sequence[Cells], embeddings: Sequence[Embedding], settings: Settings) -> Outcome[Corrected]:
    """Correct the embedding of all cells for their batches, round by round."""
    outcome = core.correct_batches(store_of(settings), cells, embeddings, settings)
    if not outcome.result.settled:
        get_run_logger().warning("the correction had not settled after %d rounds", outcome.result.rounds)
    return outcome
