"""`python flows/run.py --plan`: what a run would take, from small runs of the same flow on some of its cells."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from pydantic import BaseModel, ConfigDict, Field

from flows import console
from tasks.core.base.errors import SettingsError, UnreachableError
from tasks.core.base.settings import ALL, Settings

# Cells of the pilots. The first one shows what a process does once; the last one's partitions keep all cores at work.
_PILOTS = (20_000, 20_000, 60_000)
_TAHOE, _TAHOE_CELLS = "tahoebio/Tahoe-100M", 95_624_334
# The most that the SVD of any data took that was looked at, to settle all components.
_MOST_PASSES = 29


class PlanFlags(BaseModel):
    """What of the command line is about the plan, and no setting of the run."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    plan: bool = Field(False)
    """Run the flow on a few of the cells in a temporary folder, and say what all of them would take."""
    plan_price: float | None = Field(None, ge=0, allow_inf_nan=False)
    """What a core costs for an hour."""


@dataclass(frozen=True)
class Pilot:
    """What a run of so many cells took.

    Attributes:
        seconds: wall time of the flow.
        core_seconds: of the process and of those that it started.
        stages: wall time in which each was at work; several are at work at the same time.
        passes: of the SVD over the cells.
        memory: most that was resident, in bytes.
        store: bytes that it left there.
        output: bytes of its results.
    """

    cells: int
    seconds: float
    core_seconds: float
    stages: dict[str, float]
    passes: int
    memory: int
    store: int
    output: int


def check_flags(flags: PlanFlags) -> None:
    """Refuse what is about a plan where none is asked for.

    Raises:
        SettingsError: it is.
    """
    if flags.plan_price is not None and not flags.plan:
        raise SettingsError("--plan_price is about a plan: give --plan as well, or leave it out")


def run(settings: Settings, flags: PlanFlags, carry_out: Callable[[Settings], object]) -> int:
    """Show what a run would take; give the exit code. Nothing stays in the store or the output.

    Args:
        settings: of the run.
        flags: of the plan.
        carry_out: runs the flow.
    """
    with TemporaryDirectory(prefix="tahoe-flow-plan-") as scratch:
        settings, cells, note = _extent(settings, Path(scratch))
        sizes = [min(size, -(-cells // 2)) for size in _PILOTS[:-1]] + [min(_PILOTS[-1], cells)]
        pilots = [_pilot(settings, size, Path(scratch, str(at)), carry_out) for at, size in enumerate(sizes)]
        if settings.recipe_in_full.correction != "none" and _is_simulated(settings, Path(scratch)):
            note += ["so few simulated cells are of one plate: the correction for batches is not in it", ""]
    console.show("\n".join([*note, *describe(cells, pilots, settings, flags.plan_price)]))
    return 0


def describe(cells: int, pilots: Sequence[Pilot], settings: Settings, price: float | None) -> Iterator[str]:
    """Say what so many cells would take, by what pilots took: each cost a straight line through two of them.

    Args:
        cells: of the run.
        pilots: one, another one of as many cells in the same process, and one of more.
        settings: of the run.
        price: of a core for an hour; None to leave it out.
    """
    first, small, large = pilots
    more = (cells - large.cells) / max(large.cells - small.cells, 1)
    here = os.cpu_count() or 1
    workers = settings.workers or here

    def line(of_first: float, of_small: float, of_large: float, shared: float = 1.0) -> float:
        return of_large + max(of_first - of_small, 0.0) + max(of_large - of_small, 0.0) * more * shared

    # What grows with the cells is divided among workers; the pilots had no more than this machine's cores.
    shared = min(here, workers) / workers
    stages = {
        name: line(first.stages.get(name, 0.0), small.stages.get(name, 0.0), taken, shared)
        for name, taken in large.stages.items()
    }
    seconds = line(first.seconds, small.seconds, large.seconds, shared)
    core_hours = line(first.core_seconds, small.core_seconds, large.core_seconds) / 3600
    store, output = line(0, small.store, large.store), line(0, small.output, large.output)
    a_pass = stages.get("svd", 0.0) / large.passes
    longest = seconds + a_pass * max(_MOST_PASSES - large.passes, 0)
    yield f"{cells:,} cells by {workers} workers, from runs of {small.cells:,} and {large.cells:,} on {here} cores"
    yield ""
    yield from (f"{name:<14}{_time(taken):>10}" for name, taken in stages.items())
    yield f"{'in all':<14}{_time(seconds):>10}  for stages work at the same time; {_time(longest)} where the cells'"
    yield f"{'':<26}spectrum takes {_MOST_PASSES} passes of the SVD, the most of all data tried, not {large.passes}"
    yield ""
    cost = "" if price is None else f"  {core_hours * price:,.2f} at {price:g} a core-hour"
    yield f"{'core time':<14}{core_hours:>8.2f} h{cost}"
    yield f"{'memory':<14}{large.memory / 1e9:>7.2f} GB  of the larger run"
    left = "" if settings.keep_intermediates == "all" else "  on the way; in the end less, as --keep_intermediates says"
    yield f"{'store':<14}{store / 1e9:>7.2f} GB{left}"
    yield f"{'results':<14}{output / 1e9:>7.2f} GB"


def _extent(settings: Settings, scratch: Path) -> tuple[Settings, int, list[str]]:
    """Give the settings of the pilots, how many cells the run has, and what to know of that."""
    # Imported by a plan alone.
    from tasks.core.dataset.plan import make_plan  # noqa: PLC0415
    from tasks.core.dataset.synthetic import write_dataset  # noqa: PLC0415

    if settings.is_synthetic and settings.samples != ALL:
        return settings, settings.samples, []
    try:
        return settings, make_plan(settings.model_copy(update={"store": str(scratch / "planned")})).cells, []
    except UnreachableError as error:
        if settings.dataset != _TAHOE or settings.where or settings.per:
            raise
        told = f"{error}\nsimulated cells stand for those of {_TAHOE}: how fast these stream is not known"
        dataset = write_dataset(scratch / "cells", _PILOTS[-1], settings.seed)
        cells = _TAHOE_CELLS if settings.samples == ALL else min(settings.samples, _TAHOE_CELLS)
        return settings.model_copy(update={"dataset": str(dataset)}), cells, [told, ""]


def _pilot(settings: Settings, cells: int, folder: Path, carry_out: Callable[[Settings], object]) -> Pilot:
    # As imported by a run, too.
    from tasks.core.results.record import RunRecord, read_record  # noqa: PLC0415
    from tasks.core.storage.store import output_of  # noqa: PLC0415

    places = {"store": str(folder / "store"), "output": str(folder / "output")}
    workers = None if settings.workers is None else min(settings.workers, os.cpu_count() or 1)
    # A store takes the most before anything is given up.
    small = {"samples": max(cells, 1), "series": None, "workers": workers, "keep_intermediates": "all"}
    # Workers of a cluster may not see this machine's folders.
    here = {"engine": "threads", "dask_address": None} if settings.dask_address else {}
    alike = {"batch": "none", "correction": "none"} if _is_simulated(settings, folder.parent) else {}
    asked = settings.model_copy(update=places | small | here | alike)
    began, used = time.perf_counter(), os.times()
    carry_out(asked)
    seconds, now = time.perf_counter() - began, os.times()
    record = read_record(output_of(asked), RunRecord)
    return Pilot(
        cells=record.read["cells"],
        seconds=seconds,
        core_seconds=sum(now[:4]) - sum(used[:4]),
        stages={cost.stage: cost.seconds for cost in record.stages},
        passes=record.svd["passes"],
        memory=max(cost.peak_memory_bytes for cost in record.stages),
        store=_size(folder / "store"),
        output=_size(folder / "output"),
    )


def _is_simulated(settings: Settings, scratch: Path) -> bool:
    return settings.is_synthetic or settings.dataset.startswith(str(scratch))


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _time(seconds: float) -> str:
    for unit, of in (("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * of:
            return f"{seconds / of:.1f} {unit}"
    return f"{seconds:.1f} s"
