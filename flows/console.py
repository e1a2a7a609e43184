"""What the command line shows: progress on stderr, results on stdout."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from tasks.core.base.progress import Progress, Sparsely, heard_by
from tasks.core.base.settings import RunSettings
from tasks.core.results.record import ApplyRecord, Record, RunRecord
from tasks.core.results.summary import files_of, what_to_know
from tasks.core.storage.store import output_of

_FIRST_COMPONENTS = _LARGEST_CLUSTERS = 5
# Where there is no terminal, a stage is told in no more lines than these.
_LINES = 100
_results = Console(soft_wrap=True, highlight=False, markup=False)
_errors = Console(stderr=True, soft_wrap=True, highlight=False, markup=False)


def tell(line: str) -> None:
    """Show a line of news."""
    _errors.print(line)


def show(result: Any) -> None:
    """Print a result: a line or a table."""
    _results.print(result)


def complain(line: str) -> None:
    """Show why the run ended without results."""
    _errors.print(f"error: {line}")


@contextmanager
def progress() -> Iterator[None]:
    """Show progress for each stage: a bar on a terminal, else a line a step, or one in some."""
    if not _errors.is_terminal:
        with heard_by(Sparsely(lambda step: tell(str(step)), _LINES)):
            yield
        return
    columns = (TextColumn("{task.description:>14}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Bars(*columns, TextColumn("{task.fields[note]}"), console=_errors) as bars, heard_by(_Bars(bars).show):
        yield


class _Bars:
    def __init__(self, bars: Bars) -> None:
        self.bars = bars
        self.of_stage: dict[str, TaskID] = {}

    def show(self, step: Progress) -> None:
        if step.stage not in self.of_stage:
            self.of_stage[step.stage] = self.bars.add_task(step.stage, total=step.total, note="")
        bar = self.of_stage[step.stage]
        self.bars.update(bar, completed=step.done, total=step.total)
        if step.note:
            self.bars.update(bar, note=step.note)


def summarize_fit(settings: RunSettings, record: RunRecord) -> None:
    """Print where the results are and the first lines of the variance table."""
    _summarize(settings, record)
    _results.print("pc,explained_variance_ratio")
    for component in record.svd["components"][:_FIRST_COMPONENTS]:
        _results.print(f"{component['pc']},{component['explained_variance_ratio']:.6f}")


def summarize_applied(settings: RunSettings, record: ApplyRecord) -> None:
    """Print where the results are and the largest clusters."""
    _summarize(settings, record)
    _results.print("cluster,cells")
    of_size = sorted(zip(record.clusters["sizes"], record.clusters["names"], strict=True), reverse=True)
    for cells, name in of_size[:_LARGEST_CLUSTERS]:
        _results.print(f"{name},{cells}")


def _summarize(settings: RunSettings, record: Record) -> None:
    _results.print("; ".join(what_to_know(record)))
    for name in files_of(record):
        _results.print(f"  {output_of(settings).locate(name)}")
