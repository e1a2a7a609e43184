"""Stage: write the report."""

from pathlib import Path

from tasks.core.base.settings import Settings
from tasks.core.references.model import Exported
from tasks.core.results.drafts import Draft
from tasks.core.results.findings import Fit
from tasks.core.results.gather import gather
from tasks.core.results.record import RunRecord
from tasks.core.results.report import REPORT, report
from tasks.core.storage.store import output_of, store_of
from tasks.stage import stage


@stage(name="report", task_run_name="write the report")
def write_report(fit: Fit, record: RunRecord, draft: Draft, settings: Settings) -> Exported:
    """Write one page of what the run found, for people."""
    page = report(gather(store_of(settings), fit, record, settings))

    def write(folder: Path) -> None:
        (folder / REPORT).write_text(page, encoding="utf-8")

    return Exported(outputs=draft.write(output_of(settings), write))
