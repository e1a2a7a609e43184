"""How a run ends: in a state that says what a person must know, and with the store told that it is over."""

from typing import Any, TypeVar

from prefect import Flow
from prefect.artifacts import create_table_artifact
from prefect.client.schemas.objects import FlowRun, State
from prefect.states import Completed

from flows.artifacts import not_vital
from flows.credentials import hold
from tasks.core.base.settings import RunSettings
from tasks.core.results.record import Record, RunRecord
from tasks.core.storage.runs import end_mark
from tasks.core.storage.store import store_of

R = TypeVar("R", bound=Record)

SKIPPED_DATA, DRIFTED = "Skipped data", "Drifted"


def told(record: R) -> R | State[R]:
    """Give the record of a clean run as it is, else in a state of a name of its own, with a table of what is amiss."""
    skipped, drifted = _tell_skipped(record), _tell_drift(record)
    if not skipped and not drifted:
        return record
    name = SKIPPED_DATA if skipped else DRIFTED
    return Completed(name=name, message="; ".join([*skipped, *drifted]), data=record)


def settle_mark(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:  # noqa: ARG001  (Prefect's)
    """Tell the store that a run is over that could not do so itself, and why."""
    given = {name: value for name, value in flow_run.parameters.items() if name in RunSettings.model_fields}
    settings = RunSettings.model_validate(given)
    hold(settings.credentials)
    end_mark(store_of(settings), str(flow_run.id), f"{state.name}: {state.message}")


def _tell_skipped(record: Record) -> list[str]:
    if not record.bad_data:
        return []
    told = f"{record.read['skipped_cells']:,} bad cells were skipped"
    table = [bad.model_dump() for bad in record.bad_data]
    with not_vital("the table of skipped data"):
        create_table_artifact(key="skipped-data", table=table, description=f"{told}.")
    return [told]


def _tell_drift(record: Record) -> list[str]:
    if not isinstance(record, RunRecord) or record.series is None or record.series.drift is None:
        return []
    changes = record.series.drift.model_dump(mode="json", exclude={"exceeded"})
    table = [{"what": name.replace("_", " "), "value": str(value)} for name, value in changes.items()]
    with not_vital("the table of drift"):
        create_table_artifact(key="drift", table=table, description=record.series.note)
    return list(record.series.exceeded)
