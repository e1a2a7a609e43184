"""A forecast as text, for people."""

from collections.abc import Iterator, Sequence

from tasks.core.forecast.forecast import Forecast, Span

_UNITS = ("B", "kB", "MB", "GB", "TB")


def as_text(of: Forecast) -> str:
    """Say what a run would take, and what the forecast does not know."""
    head = ["stage", "task runs", "passes", "core time", f"time, {of.spans[0].workers} workers", "reads", "writes"]
    parts = [
        "\n".join(_facts(of)),
        "\n".join(_table(head, [*_stage_rows(of)])),
        "\n".join(_table(["workers", "time", "cost"], [*map(_span_row, of.spans)])),
        "\n".join(f"- {note}" for note in notes(of)),
    ]
    return "\n\n".join(parts)


def notes(of: Forecast) -> list[str]:
    """Say what is not in the forecast, or not certain."""
    settings, extent = of.settings, of.extent
    told = [
        f"measured on {of.rates.cells:,} simulated cells, on one core of {of.rates.machine}. Several are taken to do "
        "85 % each of what one does alone; that threads of one process also wait for each other's Python is not in it",
        "the passes of the SVD hang on the data: at 50 components simulated cells took 8, and real cells of five lines "
        f"23; --svd_max_passes {settings['svd_max_passes']} bounds them",
        _disk(of),
        "results that the store already holds are not made again; here it counts as empty",
    ]
    if extent.remote:
        told.append(
            f"bytes come from the Hub at up to {bytes_of(of.network)}/s"
            if of.network
            else "how fast the Hub gives its bytes is not in it: --plan_network MB/s puts it there"
        )
    if settings["where"] or settings["per"]:
        told.append("which cells match is not known without reading them: these are the first ones")
    if settings["store"].startswith("s3") or settings["output"].startswith("s3"):
        told.append("S3 counts as a local disk; results are gathered in the temporary folder before they go there")
    if settings["recipe"] != "plain":
        told.append("correction counts with all of its rounds, ten, and often takes fewer")
    if settings["export"] != "none":
        told.append(f"--export {settings['export']} is not in it")
    return told


def _disk(of: Forecast) -> str:
    workers = of.spans[0].workers
    stage = max(of.stages, key=lambda stage: stage.read)
    return (
        f"how fast the store can be read is not in it: {stage.stage} takes {bytes_of(stage.read)} from it, with "
        f"{workers:,} workers {bytes_of(stage.read / stage.seconds(workers))}/s where they do not wait for it"
    )


def bytes_of(size: float) -> str:
    """Give a number of bytes in the unit that suits it."""
    unit = 0
    while size >= 999.5 and unit < len(_UNITS) - 1:
        size, unit = size / 1000, unit + 1
    return f"{size:.3g} {_UNITS[unit]}"


def time_of(hours: float) -> str:
    """Give a time in the unit that suits it."""
    seconds = 3600 * hours
    if seconds < 100:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{hours:.1f} h"


def _facts(of: Forecast) -> Iterator[str]:
    extent = of.extent
    yield f"A forecast: no cell of {extent.dataset} is read, and nothing is written to the store or the output."
    yield f"cells           {extent.cells:,} of {extent.genes:,} genes, {extent.nonzeros / extent.cells:,.0f} in each"
    yield f"shards          {extent.shards:,}, in {extent.partitions:,} partitions; {of.task_runs:,} task runs"
    yield f"read            {bytes_of(extent.source_bytes)} from the source"
    yield f"store           {bytes_of(of.room)} at most, {bytes_of(of.left)} after the run{_free(of)}"
    yield f"output          {bytes_of(of.results)}"
    yield f"memory          {bytes_of(of.worker_memory)} a worker, {bytes_of(of.memory)} in all as threads"
    yield f"work            {of.core_hours:,.2f} core-hours"


def _free(of: Forecast) -> str:
    if of.free is None:
        return ""
    short = "" if of.room < of.free else ": NOT ENOUGH"
    return f"; {bytes_of(of.free)} are free there{short}"


def _stage_rows(of: Forecast) -> Iterator[list[str]]:
    workers = of.spans[0].workers
    for stage in of.stages:
        yield [
            stage.stage,
            f"{stage.task_runs:,}",
            f"{stage.passes:.3g}",
            time_of(stage.core_seconds / 3600),
            time_of(stage.seconds(workers) / 3600),
            bytes_of(stage.read),
            bytes_of(stage.written),
        ]


def _span_row(span: Span) -> list[str]:
    return [f"{span.workers:,}", time_of(span.hours), "-" if span.cost is None else f"{span.cost:,.2f}"]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    table = [head, *rows]
    widths = [max(len(row[at]) for row in table) for at in range(len(head))]
    for row in table:
        cells = [text.rjust(width) for text, width in zip(row[1:], widths[1:], strict=True)]
        yield "  ".join([row[0].ljust(widths[0]), *cells]).rstrip()
