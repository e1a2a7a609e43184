"""How a run that left bad data out ends: in a state and with an artifact of its own, not to be taken for clean."""

from prefect.artifacts import create_table_artifact
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows.artifacts import not_vital
from tasks.core.record import RunRecord

SKIPPED_DATA = "Skipped data"


def with_skipped_told(record: RunRecord) -> RunRecord | State[RunRecord]:
    """Give the record of a clean run as it is, else in a state of its name, its bad data in a table."""
    if not record.bad_data:
        return record
    told = f"{record.read['skipped_cells']:,} bad cells were skipped"
    with not_vital("the table of skipped data"):
        create_table_artifact(
            key="skipped-data", table=[bad.model_dump() for bad in record.bad_data], description=f"{told}."
        )
    return Completed(name=SKIPPED_DATA, message=told, data=record)
