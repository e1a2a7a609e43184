"""How a run ends: in a state that says what a person must know, and with the store told that it is over."""

from typing import Any

from prefect import Flow
from prefect.artifacts import create_table_artifact
from prefect.client.schemas.objects import FlowRun, State
from prefect.states import Completed

from tasks.core.record import RunRecord
from tasks.core.runs import end_mark
from tasks.core.settings import Settings
from tasks.core.store import store_of

SKIPPED_DATA, DRIFTED = "Skipped data", "Drifted"


def told(record: RunRecord) -> RunRecord | State[RunRecord]:
    """Give the record of a clean run as it is, else in a state of a name of its own, with a table of what is amiss."""
    skipped, drifted = _tell_skipped(record), _tell_drift(record)
    if not skipped and not drifted:
        return record
    name = SKIPPED_DATA if skipped else DRIFTED
    return Completed(name=name, message="; ".join([*skipped, *drifted]), data=record)


def settle_mark(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:  # noqa: ARG001  (Prefect's)
    """Tell the store that a run is over that could not do so itself, and why."""
    settings = Settings.model_validate(flow_run.parameters)
    end_mark(store_of(settings), str(flow_run.id), f"{state.name}: {state.message}")


def _tell_skipped(record: RunRecord) -> list[str]:
    if not record.bad_data:
        return []
    told = f"{record.read['skipped_cells']:,} bad cells were skipped"
    table = [bad.model_dump() for bad in record.bad_data]
    create_table_artifact(key="skipped-data", table=table, description=f"{told}.")
    return [told]


def _tell_drift(record: RunRecord) -> list[str]:
    drift = record.series and record.series["drift"]
    if not drift:
        return []
    changes = [{"what": name.replace("_", " "), "value": str(value)} for name, value in drift.items()]
    create_table_artifact(key="drift", table=changes, description=record.series["note"] if record.series else "")
    return list(drift["exceeded"])
