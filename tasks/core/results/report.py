"""The report of a run, `report.html`: one static file for people, to open on a phone or a desktop and to print."""

from tasks.core.results import report_clusters, report_run
from tasks.core.results.record import ApplyRecord, RunRecord
from tasks.core.results.report_data import ReportData
from tasks.core.results.report_html import Html, bullets, join, page, table
from tasks.core.results.summary import what_ran, what_to_know

REPORT = "report.html"


def report(data: ReportData) -> str:
    """Write the page: no script, nothing fetched, all text from data escaped; the same bytes for the same data."""
    record = data.record
    rows = [*what_ran(record), *_normalization(data)]
    lead = join([bullets(what_to_know(record)), table("What ran", ["what", "value"], rows)])
    return page(f"Single cells of {record.dataset['name']}", lead, [*_findings(data), *_of_the_run(data)])


def _normalization(data: ReportData) -> list[tuple[str, object]]:
    norm = data.record.normalization
    counts = f"counts per {norm.target_sum:,.0f}"
    return [("normalization", f"{counts}, log1p" if norm.log1p else counts)]


def _findings(data: ReportData) -> list[tuple[str, Html]]:
    record, of = data.record, report_clusters
    return [
        *([of.embedding(data.cells)] if data.cells else []),
        *([of.sizes(record)] if isinstance(record, RunRecord | ApplyRecord) else []),
        *([of.compositions(data.compositions)] if data.compositions else []),
        *([of.agreements(data.agreements)] if data.agreements else []),
        *([of.markers(data.markers)] if data.markers else []),
        *([of.choice(data.choice)] if data.choice else []),
        *([of.confounding(data.batches)] if data.batches else []),
        *([of.components(record)] if isinstance(record, RunRecord) else []),
    ]


def _of_the_run(data: ReportData) -> list[tuple[str, Html]]:
    record, of = data.record, report_run
    return [
        *([of.quality(data.quality)] if data.quality else []),
        *of.skipped(record),
        of.repeat(record),
        of.settings(record),
        of.versions(record),
        of.cost(record),
    ]
