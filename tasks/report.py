"""Stage: write the report."""

from tasks.core.base.settings import Settings
from tasks.core.references.model import Exported
from tasks.core.results.drafts import Draft
from tasks.core.results.findings import Fit
from tasks.core.results.gather import gather
from tasks.core.results.record import RunRecord
from tasks.core.storage.store import output_of, store_of
from tasks.stage import stage


@stage(name="report", task_run_name="write the report")
def write_report(fit: Fit, record: RunRecord, draft: Draft, settings: Settings) -> Exported:
    """Write one page of what the run found, for people, and two of its pictures."""
    from tasks.core.results import report  # noqa: PLC0415  (only a run that gets here draws)

    data = gather(store_of(settings), fit, record, settings)
    return Exported(outputs=draft.write(output_of(settings), lambda folder: report.write_report(data, folder)))
