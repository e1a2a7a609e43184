"""Make the automations of the flows on the Prefect server: `python deployments/automations.py [--crash_silent_runs]`.

They call the webhook that TAHOE_WEBHOOK_URL names when a run fails or crashes, and when one ends well but in a state
that a person should look at. Called once more, the command brings them up to date. The address of a webhook is a
secret: it is taken from the environment, and kept on the server as a secret.

With --crash_silent_runs there is one more, which marks as crashed a run that gave no sign of life for minutes, as when
its host is gone. It is for servers on Postgres: it writes to the database at each event of a run, and SQLite, locked by
another write, then loses the event for every automation. The loss of a run's last event would mark a finished run.
"""

import argparse
import os
import sys
from datetime import timedelta
from pathlib import Path

# The checkout's own packages come first, as in flows/run.py.
sys.path[0] = str(Path(__file__).resolve().parents[1])

from prefect.blocks.webhook import Webhook  # noqa: E402  (the path must be set first)
from prefect.client.orchestration import SyncPrefectClient, get_client  # noqa: E402
from prefect.client.schemas.objects import StateType  # noqa: E402
from prefect.events.actions import CallWebhook, ChangeFlowRunState  # noqa: E402
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture  # noqa: E402
from pydantic import SecretStr  # noqa: E402

from flows import console  # noqa: E402
from flows.apply_model import apply_model  # noqa: E402
from flows.cluster_cells import cluster_cells  # noqa: E402
from flows.endings import DRIFTED, SKIPPED_DATA  # noqa: E402
from flows.server import configured  # noqa: E402
from tasks.core.base.errors import SettingsError, TahoeFlowError  # noqa: E402

_WEBHOOK = "cluster-cells"
_RUNS = {"prefect.resource.id": "prefect.flow-run.*"}
_OF_THE_FLOWS: dict[str, str | list[str]] = {
    "prefect.resource.role": "flow",
    "prefect.resource.name": [cluster_cells.name, apply_model.name],
}
# States that a run ends well in, and yet should be looked at.
_TO_LOOK_AT = (SKIPPED_DATA, DRIFTED)
# Runs give a sign of life every three minutes.
_SILENCE = timedelta(minutes=10)
_PAYLOAD = """{
  "text": {{ (flow_run.name ~ ": " ~ flow_run.state.name ~ ": " ~ flow_run.state.message) | tojson }},
  "state": {{ flow_run.state.name | tojson }},
  "url": {{ flow_run | ui_url | tojson }}
}"""


def main(arguments: list[str]) -> int:
    """Make the automations or bring them up to date; give the exit code."""
    parser = argparse.ArgumentParser(prog="python deployments/automations.py", description="Make the automations.")
    parser.add_argument("--crash_silent_runs", action="store_true", help="mark dead runs as crashed; wants Postgres")
    given = parser.parse_args(arguments)
    try:
        configured().check()
        automations = _notifying(_notify())
        if given.crash_silent_runs:
            automations.append(_crashing())
        with get_client(sync_client=True) as client:
            for automation in automations:
                _save(client, automation)
                console.show(automation.name)
    except TahoeFlowError as error:
        console.complain(str(error))
        return 2 if isinstance(error, SettingsError) else 1
    return 0


def _notify() -> CallWebhook:
    url = os.environ.get("TAHOE_WEBHOOK_URL", "")
    if not url.startswith(("http://", "https://")):
        raise SettingsError("TAHOE_WEBHOOK_URL must be the address to call, http://... or https://...")
    block = Webhook(url=SecretStr(url), headers={"Content-Type": "application/json"})
    return CallWebhook(block_document_id=block.save(_WEBHOOK, overwrite=True), payload=_PAYLOAD)


def _notifying(notify: CallWebhook) -> list[AutomationCore]:
    ended_badly = EventTrigger(
        expect={"prefect.flow-run.*"},
        match=_RUNS | {"prefect.state-type": ["FAILED", "CRASHED"]},
        match_related=_OF_THE_FLOWS,
        posture=Posture.Reactive,
    )
    to_look_at = EventTrigger(
        expect={f"prefect.flow-run.{name}" for name in _TO_LOOK_AT},
        match=_RUNS,
        match_related=_OF_THE_FLOWS,
        posture=Posture.Reactive,
    )
    return [
        AutomationCore(name="cluster-cells: failed or crashed", trigger=ended_badly, actions=[notify]),
        AutomationCore(name="cluster-cells: look at this run", trigger=to_look_at, actions=[notify]),
    ]


def _crashing() -> AutomationCore:
    silent = EventTrigger(
        after={"prefect.flow-run.heartbeat"},
        # Any event of the run: listing the states it may end in would miss those with names of their own.
        expect={"prefect.flow-run.*"},
        match=_RUNS,
        match_related=_OF_THE_FLOWS,
        for_each={"prefect.resource.id"},
        posture=Posture.Proactive,
        within=_SILENCE,
    )
    message = f"no sign of life for {_SILENCE.total_seconds() / 60:g} minutes: its host may be gone"
    crashed = ChangeFlowRunState(state=StateType.CRASHED, message=message)
    return AutomationCore(name="cluster-cells: no sign of life", trigger=silent, actions=[crashed])


def _save(client: SyncPrefectClient, automation: AutomationCore) -> None:
    found = client.read_automations_by_name(automation.name)
    if found:
        client.update_automation(found[0].id, automation)
    else:
        client.create_automation(automation)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
