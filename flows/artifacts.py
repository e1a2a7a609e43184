"""What a run leaves in Prefect's UI beside its states: a summary, with pictures.

The results do not hang on it: what the server does not take is told in the log, and the run goes on.
"""

import json
import re
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from prefect import get_run_logger
from prefect.artifacts import create_markdown_artifact
from prefect.events import emit_event
from prefect.runtime import deployment, flow_run

from flows.parameters import flat
from tasks.core.base.errors import StoreError, first_line
from tasks.core.results.record import RECORD, Record
from tasks.core.results.summary import summary, what_to_know
from tasks.core.storage.store import Store


def key_of(kind: str) -> str:
    """Name artifacts of a kind: those of a deployment, of a series or of a dataset have a history of their own."""
    asked = flat(flow_run.parameters)
    whose = deployment.name or asked.get("series") or str(asked.get("dataset", "")).rstrip("/").rpartition("/")[-1]
    return "-".join([kind, *re.findall("[a-z0-9]+", str(whose).lower())])


@contextmanager
def not_vital(what: str) -> Iterator[None]:
    """Go on, with a warning, where something cannot be shown."""
    try:
        yield
    except Exception as error:  # a server's client fails in many ways
        get_run_logger().warning("the UI will not show %s: %s; the run goes on", what, first_line(error))


def show_results(record: Record, output: Store) -> None:
    """Leave the summary of a finished run."""
    told = "; ".join(what_to_know(record))
    get_run_logger().info("%s. Results are in %s", told, output.locate(""))
    with not_vital("the summary"):
        page = summary(record, output.locate, lambda name: _embedded(output, name))
        create_markdown_artifact(page, key=key_of("summary"), description=told)
    with not_vital("the results as an asset"):
        _emit_asset(record, output)


def _emit_asset(record: Record, output: Store) -> None:
    """Tell the server of results as of an asset, made of a revision of the dataset, unless they stood there before."""
    delivered = json.loads(output.files.read(RECORD) or b"{}").get("origin")
    if delivered != record.origin.model_dump(mode="json"):
        return
    place = output.locate("").rstrip("/")
    asset = place if "://" in place else Path(place).as_uri()
    emit_event(
        event="prefect.asset.materialization.succeeded",
        resource={"prefect.resource.id": asset, "prefect.resource.name": asset},
        related=[
            {
                "prefect.resource.id": "{name}@{revision}".format_map(record.dataset),
                "prefect.resource.role": "asset-upstream",
            }
        ],
        payload={"run": record.origin.run, "content": record.content, "cells": record.read["cells"]},
    )


def _embedded(output: Store, name: str) -> str:
    # A browser opens neither a file of the run's machine nor an object in a private bucket.
    picture = output.files.read(name)
    if picture is None:
        raise StoreError(f"{output.locate(name)} is gone")
    return f"data:image/png;base64,{b64encode(picture).decode()}"
