"""Stage: write the report."""

from tasks.core.base.settings import Settings
from tasks.core.references.model import Output
from tasks.core.results.delivery import deliver_page
from tasks.core.results.findings import Fit
from tasks.core.results.gather import gather
from tasks.core.results.record import RunRecord
from tasks.core.results.report import REPORT, report
from tasks.core.storage.store import output_of, store_of
from tasks.stage import stage


@stage(name="report", task_run_name="write the report")
def write_report(fit: Fit, record: RunRecord, settings: Settings) -> Output:
    """Write one page of what the run found, for people, to the output."""
    page = report(gather(store_of(settings), fit, record, settings))
    return deliver_page(output_of(settings), REPORT, page)
