"""How a run ends: in a state that says what a person must know, and with the store told that it is over."""

from typing import Any

from prefect import Flow
from prefect.artifacts import create_table_artifact
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun, State
from prefect.states import Completed

from flows.artifacts import key_of, not_vital
from flows.credentials import hold
from flows.parameters import flat, settings_of
from tasks.core.base.settings import RunSettings
from tasks.core.results.record import RECORD, Record, RunRecord
from tasks.core.results.summary import files_of, what_to_know
from tasks.core.storage.runs import end_mark
from tasks.core.storage.store import Store, store_of

# Of the key of a run that follows one that crashed.
_AGAIN = "again-"
SKIPPED_DATA, DRIFTED = "Skipped data", "Drifted"


def told(record: Record, output: Store) -> dict[str, Any] | State[dict[str, Any]]:
    """Tell where the results are: where something is amiss, in a state of a name of its own, and with a table of it."""
    results = {
        "output": output.locate(""),
        "record": output.locate(RECORD),
        "files": list(files_of(record)),
        "origin": record.origin.model_dump(mode="json"),
        "cells": record.read["cells"],
        "skipped_cells": record.read["skipped_cells"],
        "notes": what_to_know(record),
    }
    skipped, drifted = _tell_skipped(record), _tell_drift(record)
    if not skipped and not drifted:
        return results
    name = SKIPPED_DATA if skipped else DRIFTED
    return Completed(name=name, message="; ".join([*skipped, *drifted]), data=results)


def settle_mark(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:  # noqa: ARG001  (Prefect's)
    """Tell the store that a run is over that could not do so itself, and why."""
    given = flat(flow_run.parameters)
    settings = settings_of(RunSettings, {name: given[name] for name in given.keys() & RunSettings.model_fields})
    hold(settings.credentials)
    end_mark(store_of(settings), str(flow_run.id), f"{state.name}: {state.message}")


def rerun_once(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:  # noqa: ARG001
    """Follow a run of a deployment that crashed by another one, which is not followed: it finds what was finished.

    The run itself could not begin anew: Prefect's worker says of it once more that it crashed.
    """
    if flow_run.deployment_id and not str(flow_run.idempotency_key).startswith(_AGAIN):
        with get_client(sync_client=True) as client:
            client.create_flow_run_from_deployment(
                flow_run.deployment_id,
                parameters=flow_run.parameters,
                tags=flow_run.tags,
                idempotency_key=f"{_AGAIN}{flow_run.id}",
            )


def _tell_skipped(record: Record) -> list[str]:
    if not record.bad_data:
        return []
    told = f"{record.read['skipped_cells']:,} bad cells were skipped"
    table = [bad.model_dump() for bad in record.bad_data]
    with not_vital("the table of skipped data"):
        create_table_artifact(key=key_of("skipped-data"), table=table, description=f"{told}.")
    return [told]


def _tell_drift(record: Record) -> list[str]:
    if not isinstance(record, RunRecord) or record.series is None or record.series.drift is None:
        return []
    changes = record.series.drift.model_dump(mode="json", exclude={"exceeded"})
    table = [{"what": name.replace("_", " "), "value": str(value)} for name, value in changes.items()]
    with not_vital("the table of drift"):
        create_table_artifact(key=key_of("drift"), table=table, description=record.series.note)
    return list(record.series.exceeded)
