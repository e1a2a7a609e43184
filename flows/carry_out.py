"""A run from its settings to its record, whatever its stages are."""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

from prefect import get_run_logger
from prefect.client.schemas.objects import State
from prefect.context import FlowRunContext
from prefect.runtime import deployment, flow_run
from prefect.task_runners import ThreadPoolTaskRunner

from flows.artifacts import show_results
from flows.credentials import hold
from flows.endings import rerun_once, settle_mark, told
from flows.engines.engine import Engine, engine_of
from flows.progress import told_to_prefect
from tasks.core.base.environment import code_version
from tasks.core.base.errors import CorruptObjectError, SettingsError, StoreError, first_line
from tasks.core.base.memory import use_one_heap
from tasks.core.base.settings import RunSettings, is_on_s3
from tasks.core.base.surroundings import fit_surroundings
from tasks.core.dataset.where import Where
from tasks.core.numerics.fold import one_blas_thread
from tasks.core.numerics.workers import put_to_work
from tasks.core.results.costs import Costs
from tasks.core.results.dated import DatedOutput
from tasks.core.results.delivery import check_free
from tasks.core.results.drafts import held
from tasks.core.results.housekeeping import keep_only
from tasks.core.results.record import Origin, Record
from tasks.core.results.results import may_write
from tasks.core.storage.files import root_of
from tasks.core.storage.runs import RunMarker
from tasks.core.storage.store import output_of, store_of
from tasks.stage import Limits, limited

S = TypeVar("S", bound=RunSettings)
R = TypeVar("R", bound=Record)
T = TypeVar("T")
# Where a worker of Prefect's starts what it first gets by a pull step.
_PASSING_FOLDER = re.compile("tmp.*prefect")
# Each finds all damage of a stage, and no flow has more than twenty stages.
_MOST_REPAIRS = 20
# Task runs under way at once: most of them wait, for what they are given, for their turn or for a worker elsewhere.
AT_ONCE: Any = ThreadPoolTaskRunner(max_workers=64)
# Of every flow. Its settings check themselves: Prefect would log what they refuse, secrets too.
OPTIONS: dict[str, Any] = {
    "task_runner": AT_ONCE,
    "version": code_version(),
    "validate_parameters": False,
    "persist_result": True,
    "result_serializer": "json",
    "on_crashed": [settle_mark, rerun_once],
    "on_cancellation": [settle_mark],
}


@dataclass(frozen=True)
class Run:
    """What the stages of a run have in common.

    Attributes:
        origin: the run itself, as its record names it.
        costs: what its stages cost.
    """

    origin: Origin
    costs: Costs


def carry_out(
    settings: S,
    all_stages: Callable[[Run, S], tuple[object, R]],
    shares: Mapping[str, float],
) -> dict[str, Any] | State[dict[str, Any]]:
    """Run all stages until their results are whole and delivered, and show the record of what they found.

    Returns:
        Where the results are, and what to know of them: for any caller, who may not have this code.

    Args:
        settings: of the run.
        all_stages: gives what the stages return, and the record of that.
        shares: of each stage in the work of a large run, for a bar that moves evenly.
    """
    if settings.where:
        Where(settings.where)
    _check_installed(settings)
    _check_lasting(settings)
    _check_task_runner()
    hold(settings.credentials)
    dated = DatedOutput(settings, flow_run.scheduled_start_time.date())
    settings = settings.model_copy(update={"output": dated.place})
    store, output = store_of(settings), output_of(settings)
    output.files.check_writable()
    dated.check()
    check_free(output, may_write(settings))
    store.claim()
    with held(output), told_to_prefect(shares), _marked(settings) as mark, _at_work(settings) as engine:
        found, record = _until_whole(settings, all_stages, mark, engine)
        mark.end(found)
    dated.point()
    keep_only(settings, mark.name)
    show_results(record, output)
    return told(record, output)


def _origin(run: str) -> Origin:
    return Origin(
        run=run,
        version=code_version(),
        flow_run=flow_run.id or "",
        url=flow_run.ui_url or None,
        deployment=deployment.name,
    )


def _until_whole(
    settings: S, all_stages: Callable[[Run, S], tuple[object, R]], mark: RunMarker, engine: Engine
) -> tuple[object, R]:
    """Run all stages; where an object of the store turns out to be damaged, again: what is whole is found there."""
    damaged: list[str] = []
    origin = _origin(mark.name)
    while True:
        costs = Costs(damaged)
        try:
            with limited(Limits(costs, engine.steps)):
                return all_stages(Run(origin, costs), settings)
        except CorruptObjectError as error:
            if len(damaged) == _MOST_REPAIRS:
                raise
            get_run_logger().warning("%s; it is made again", error)
            damaged.append(str(error))


@contextmanager
def _marked(settings: RunSettings) -> Iterator[RunMarker]:
    """Tell the store that a run is at work, and how it ended."""
    mark = RunMarker(store_of(settings), settings, flow_run.id or "")
    mark.begin()
    try:
        yield mark
    except BaseException as error:
        # What went wrong first is what matters, and it may be the store itself.
        with suppress(StoreError):
            mark.fail(f"{type(error).__name__}: {first_line(error)}")
        raise


@contextmanager
def _at_work(settings: RunSettings) -> Iterator[Engine]:
    """Give the stages of a run their workers."""
    use_one_heap()
    fit_surroundings()
    with one_blas_thread(), engine_of(settings) as engine, put_to_work(engine.workers):
        yield engine


def _check_installed(settings: RunSettings) -> None:
    recipe = settings.recipe_in_full
    needed = {
        "umap": recipe.layout == "umap",
        "igraph": recipe.leiden > 0,
        "skmisc": recipe.genes == "seurat_v3",
        "anndata": getattr(settings, "export", "none") == "h5ad",
    }
    missing = [name for name, is_needed in needed.items() if is_needed and find_spec(name) is None]
    if missing:
        raise SettingsError(
            f"what is asked for needs packages that are not installed ({', '.join(missing)}): "
            "pip install '.[atlas]' has them, and the recipe plain needs none"
        )


def _check_task_runner() -> None:
    context = FlowRunContext.get()
    if context and not isinstance(context.task_runner, ThreadPoolTaskRunner):
        given = type(context.task_runner).__name__
        raise SettingsError(
            f"the tasks of this flow share the limits and workers of one process, and {given} "
            "runs them in others: choose a ThreadPoolTaskRunner, and --engine dask for workers elsewhere"
        )


def _check_lasting(settings: RunSettings) -> None:
    here = Path.cwd()
    if not any(map(_PASSING_FOLDER.fullmatch, here.parts)):
        return
    for name, place in (("store", settings.store), ("output", settings.output)):
        if not is_on_s3(place) and Path(root_of(place)).is_relative_to(here):
            raise SettingsError(
                f"{name} '{place}' is relative to {here}, which Prefect's worker removes when the run ends: "
                "give an absolute path, or s3://bucket/prefix"
            )
