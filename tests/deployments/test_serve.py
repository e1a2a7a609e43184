"""The deployments on a real server, asked for runs as the UI asks."""

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl
import pytest

from flows.command_line import main
from tasks.core.base.settings import Settings
from tasks.core.storage.runs import marks
from tasks.core.storage.store import Store
from tests.deployments.conftest import Served
from tests.prefect_server import wait_for

SMALL = {"samples": 400, "pca_dim": 5, "clusters": 3}
# Many partitions, so that there is a middle.
LONG = {"samples": 4000, "work": {"partition_cells": 200}, "pca_dim": 5, "clusters": 3}


def landed(places: dict[str, str]) -> int:
    return len(list(Path(places["store"]).glob("streaming/*/manifest.json")))


def costs(places: dict[str, str], kind: str) -> int:
    record = json.loads((Path(places["output"]) / "run.json").read_text())
    return sum(cost[kind] for cost in record["stages"])


def whys_it_ended(places: dict[str, str], run: str) -> list[str]:
    return [mark.why for _, mark in marks(Store(places["store"])) if mark.flow_run == run]


def process_of(run: str) -> int:
    """The process that a run is in; its environment has the run's id."""
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with suppress(OSError):
                if f"PREFECT__FLOW_RUN_ID={run}".encode() in (folder / "environ").read_bytes():
                    return int(folder.name)
    return pytest.fail("no process of the run")


def test_schedules_create_runs(served: Served) -> None:
    """Also guards the pins of fastapi and SQLAlchemy, newer ones of which broke schedules in silence."""
    nightly, weekly = served.deployment("sample-nightly"), served.deployment("full-weekly")
    assert [line["active"] for line in (*nightly["schedules"], *weekly["schedules"])] == [True, False]
    wait_for("scheduled runs", lambda: len(served.runs("sample-nightly")) > 2)
    for run in served.runs("sample-nightly"):
        planned = datetime.fromisoformat(run["expected_start_time"]).astimezone(ZoneInfo("Europe/Zurich"))
        assert (run["state"]["type"], planned.hour, planned.minute) == ("SCHEDULED", 3, 30)
    assert not any(run["auto_scheduled"] for run in served.runs("full-weekly"))


def test_the_form_has_the_eight_settings_that_matter_first_and_the_others_in_groups(served: Served) -> None:
    deployment = served.deployment("on-demand")
    schema = deployment["parameter_openapi_schema"]
    form, groups = schema["properties"], schema["definitions"]
    names = sorted(form, key=lambda name: form[name]["position"])
    assert names[:8] == ["dataset", "samples", "where", "recipe", "pca_dim", "clusters", "store", "output"]
    grouped = [groups[form[name]["$ref"].rpartition("/")[-1]]["properties"] for name in names[8:]]
    settings = {name: form[name] for name in names[:8]} | {
        name: shown for one in grouped for name, shown in one.items()
    }
    assert list(settings) == list(Settings.model_fields)
    assert all(shown["description"] for shown in settings.values())
    # A choice of types is of what a value may be, never of whether there is one.
    assert {name for name, shown in settings.items() if "anyOf" in shown} == {"samples", "clusters"}
    assert (form["pca_dim"]["minimum"], form["pca_dim"]["maximum"]) == (1, 1000)
    assert settings["on_bad_data"]["enum"] == ["fail", "skip"]
    assert [choice["type"] for choice in form["samples"]["anyOf"]] == ["integer", "string"]
    assert deployment["concurrency_options"]["collision_strategy"] == "ENQUEUE"
    assert deployment["global_concurrency_limit"]["limit"] == 1


@pytest.mark.parametrize(
    ("parameters", "why"),
    [
        ({"pca_dim": 0}, "0 is less than the minimum of 1"),
        ({"pca_dim": "many"}, "is not of type 'integer'"),
        ({"samples": 0}, "0 is less than or equal to the minimum of 0"),
        ({"clusters": "10,x"}, "'10,x' does not match"),
        ({"recipe": "tasty"}, "is not one of"),
        ({"where": 5}, "is not of type 'string'"),
        ({"quality": {"min_genes": -1}}, "-1 is less than the minimum of 0"),
        ({"quality": {"typo": 1}}, "Additional properties are not allowed"),
        ({"recurring": {"series": "a b"}}, "does not match"),
        ({"work": {"dask_address": "http://somewhere"}}, "does not match"),
        ({"store": "s3:/bucket"}, "does not match"),
        ({"store": "gs://bucket/prefix"}, "does not match"),
        ({"output": "s3://user:secret@bucket/prefix"}, "does not match"),
        ({"dataset": "https://user:secret@example.org/data"}, "does not match"),
    ],
)
def test_what_is_wrong_by_itself_is_refused_before_there_is_a_run(
    served: Served, parameters: dict[str, Any], why: str
) -> None:
    body = {"parameters": parameters, "state": {"type": "SCHEDULED"}}
    refused = served.client.post(f"deployments/{served.deployment('on-demand')['id']}/create_flow_run", json=body)
    assert (refused.status_code, why in refused.text) == (409, True), refused.text


@pytest.mark.parametrize(
    ("parameters", "why"),
    [
        ({"choice": {"per": "drug"}}, "per and at_most go together"),
        ({"where": "plate ="}, "where plate =: unable to parse"),
        ({"reduction": {"scale_max": 10}}, "scale_max 10 shifts each gene"),
    ],
)
def test_what_is_wrong_together_fails_in_a_line_with_the_words_of_the_form(
    served: Served, places: dict[str, str], parameters: dict[str, Any], why: str
) -> None:
    run = served.click_run("on-demand", **places, **parameters)
    ended = served.end_of(run)
    assert ended["type"] == "FAILED"
    assert ended["message"].startswith(why)
    asked = {"logs": {"flow_run_id": {"any_": [run]}, "level": {"ge_": 0}}}
    logged = [line["message"] for line in served.ask("POST", "logs/filter", asked)]
    # As its process ends, Prefect logs where the exception of any failed run came from.
    assert [line for line in logged if "Traceback" in line and not line.startswith("Engine execution exited")] == []
    assert not Path(places["store"]).exists()


def test_a_click_with_the_defaults_gives_results(served: Served, places: dict[str, str]) -> None:
    ended = served.end_of(served.click_run("on-demand", **places, samples=400))
    assert ended["type"] == "COMPLETED", ended["message"]
    table = pl.read_csv(Path(places["output"]) / "embeddings.csv")
    assert (len(table), "pc50" in table.columns, table["cluster"].n_unique()) == (400, True, 10)


def test_who_runs_a_deployment_is_told_where_its_results_are(served: Served, places: dict[str, str]) -> None:
    parameters = json.dumps(places | SMALL)
    script = f"""
import json
from prefect.deployments import run_deployment

run = run_deployment("cluster-cells/on-demand", parameters=json.loads({parameters!r}), timeout=300)
print(json.dumps([str(run.id), run.state.result()]))
"""
    ran = subprocess.run(
        [sys.executable, "-c", script], env=served.environment, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    run, told = json.loads(ran.stdout)
    record = json.loads(Path(told["record"]).read_text())
    assert (told["output"], told["cells"], told["skipped_cells"]) == (f"{places['output']}/", 400, 0)
    assert "embeddings.csv" in told["files"]
    assert told["origin"] == record["origin"]
    origin = record["origin"]
    assert (origin["flow_run"], origin["deployment"]) == (run, "on-demand")
    assert origin["url"].endswith(f"/flow-run/{run}")
    assert origin["version"].startswith(version("tahoe-flow"))


def test_a_click_applies_the_model_that_another_deployment_left(served: Served, places: dict[str, str]) -> None:
    assert served.end_of(served.click_run("on-demand", **places, **SMALL))["type"] == "COMPLETED"
    applied = {"store": places["store"], "output": f"{places['output']}-applied", "model": places["output"]}
    run = served.click_run("apply-model", **applied, dataset="synthetic", samples=400)
    ended = served.end_of(run)
    assert ended["type"] == "COMPLETED", ended["message"]
    for name in ("embeddings.csv", "embeddings/part-00000.parquet"):
        assert Path(applied["output"], name).read_bytes() == Path(places["output"], name).read_bytes()


def test_of_two_at_once_the_second_waits(served: Served, places: dict[str, str]) -> None:
    runs = [served.click_run("on-demand", **places, **SMALL) for _ in range(2)]
    assert [served.end_of(run)["type"] for run in runs] == ["COMPLETED"] * 2
    made = [served.ask("GET", f"flow_runs/{run}") for run in runs]
    spans = sorted((run["start_time"], run["end_time"]) for run in made)
    assert spans[0][1] <= spans[1][0]
    assert any(state["name"] == "AwaitingConcurrencySlot" for run in runs for state in served.states(run))


def test_a_cancelled_run_is_taken_up(
    served: Served, places: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    run = served.click_run("on-demand", **places, **LONG)
    wait_for("partitions", lambda: landed(places) > 3)
    served.ask("POST", f"flow_runs/{run}/set_state", {"state": {"type": "CANCELLING"}})
    assert served.end_of(run)["type"] == "CANCELLED"
    done = landed(places)
    assert not Path(places["output"], "run.json").exists()
    (why,) = whys_it_ended(places, run)
    assert why
    assert main(["store", "verify", "--store", places["store"]]) == 0
    assert served.end_of(served.click_run("on-demand", **places, **LONG))["type"] == "COMPLETED"
    assert costs(places, "cached") >= done
    capsys.readouterr()


def test_a_killed_run_is_crashed_its_store_knows_why_and_one_more_follows(
    served: Served, places: dict[str, str]
) -> None:
    def following(run: str) -> list[str]:
        return [one["id"] for one in served.runs("on-demand") if one["idempotency_key"] == f"again-{run}"]

    def kill(run: str) -> None:
        wait_for("the run at work", lambda: whys_it_ended(places, run) and landed(places) > 3)
        os.kill(process_of(run), signal.SIGKILL)
        assert served.end_of(run)["type"] == "CRASHED"
        wait_for("mark", lambda: all(why.startswith("Crashed: ") for why in whys_it_ended(places, run)))

    first = served.click_run("on-demand", **places, **LONG)
    kill(first)
    (second,) = wait_for("a run that follows", lambda: following(first))
    kill(second)
    done = landed(places)
    last = served.click_run("on-demand", **places, **LONG)
    assert served.end_of(last)["type"] == "COMPLETED"
    assert costs(places, "cached") >= done
    assert not following(second)


def test_a_schedule_fires(served: Served, places: dict[str, str]) -> None:
    deployment = served.deployment("on-demand")
    line = {"schedule": {"interval": 15}, "active": True, "parameters": places | SMALL}
    (made,) = served.ask("POST", f"deployments/{deployment['id']}/schedules", [line])

    def fired() -> Any:
        return [run for run in served.runs("on-demand") if run["auto_scheduled"] and run["start_time"]]

    run = wait_for("run of the schedule", fired)[0]
    served.ask("DELETE", f"deployments/{deployment['id']}/schedules/{made['id']}")
    assert served.end_of(run["id"])["type"] == "COMPLETED"
    assert Path(places["output"], "embeddings.csv").exists()


def test_a_run_outlives_a_crash_of_the_server(served: Served, places: dict[str, str]) -> None:
    run = served.click_run("on-demand", **places, **LONG)
    wait_for("partitions", lambda: landed(places) > 3)
    served.crash_and_start()
    ended = served.end_of(run)
    assert ended["type"] == "COMPLETED", ended["message"]
    # Its place under the limit is free again.
    assert served.end_of(served.click_run("on-demand", **places, **SMALL))["type"] == "COMPLETED"
