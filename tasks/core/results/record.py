"""The record of a run, `run.json`: what was asked for, what was read, what it cost and what came out."""

import hashlib
import json
from collections import Counter
from typing import Any, TypeVar

from tasks.core.base.environment import code_digest
from tasks.core.base.errors import StoreError
from tasks.core.base.recipes import Recipe
from tasks.core.base.settings import ApplySettings, RunSettings, Settings
from tasks.core.model.drift import Drift
from tasks.core.numerics.normalize import NORMALIZATION
from tasks.core.references.cells import (
    Normalization,
    Skipped,
)
from tasks.core.references.insight import Scores
from tasks.core.references.model import Model, Output
from tasks.core.results.costs import Costs, StageCost
from tasks.core.results.findings import Applied, Findings, Fit, Matrix
from tasks.core.results.tables import component_table
from tasks.core.storage.store import Reference, Store, objects_of

RECORD = "run.json"
# What differs between runs that find the same.
_OF_ONE_RUN = {"origin", "environments", "damaged", "stages", "outputs", "content", "series"}

R = TypeVar("R", bound="Record")


class Origin(Reference):
    """What made the results of a run.

    Attributes:
        run: its name in the store.
        version: of the code, with its commit where that is known.
        flow_run: its id on the Prefect server.
        url: of it in Prefect's UI; None on a server without one.
        deployment: of which it is a run; None for an ad hoc one.
    """

    run: str
    version: str
    flow_run: str
    url: str | None = None
    deployment: str | None = None


class Record(Reference):
    """What is known of a finished run, whatever it computed.

    Attributes:
        origin: what made it.
        environments: what made the results of the stages, which name them by their place here.
        outputs: the files of the results; none before they are delivered.
        content: what `content_of` gives.
    """

    origin: Origin
    settings: dict[str, Any]
    dataset: dict[str, Any]
    environments: tuple[dict[str, str], ...]
    normalization: Normalization
    read: dict[str, int]
    skipped: dict[str, str]
    bad_data: tuple[Skipped, ...]
    damaged: tuple[str, ...]
    stages: tuple[StageCost, ...]
    outputs: tuple[Output, ...] = ()
    content: str | None = None


class SeriesRecord(Reference):
    """The place of a run in its series.

    Attributes:
        number: of the run that left these results; of an unchanged run, of the one before.
        note: what it began from.
        unchanged: whether nothing had changed since the run before.
        drift: what had changed; None for a run that is compared with none.
    """

    name: str
    number: int
    note: str
    unchanged: bool
    drift: Drift | None

    @property
    def exceeded(self) -> tuple[str, ...]:
        """What is beyond a threshold, a sentence each."""
        return () if self.drift is None else self.drift.exceeded


class RunRecord(Record):
    """All that is known of a finished run that fitted a model.

    Attributes:
        recipe: what was done, in full.
        removed: cells and genes that were left out, by the name of the setting; one may be beyond several.
        svd: the components, of the SVD or the PCA.
        correction: for batches; None where there was none.
        scores: how good the clusters are; None where they were not scored.
        series: its place in a series of runs, and what changed since the run before; None for a run of none.
    """

    recipe: Recipe
    removed: dict[str, int]
    svd: dict[str, Any]
    correction: dict[str, Any] | None
    clustering: dict[str, Any]
    scores: Scores | None
    series: SeriesRecord | None


class ApplyRecord(Record):
    """All that is known of a finished run that applied a model.

    Attributes:
        model: where it came from, and the digests of its files.
        clusters: name, cells and inertia of the clusters.
    """

    model: dict[str, Any]
    clusters: dict[str, Any]


def make_record(settings: Settings, found: Findings, costs: Costs, origin: Origin) -> RunRecord:
    """Put together what `run.json` says of a fit, but for its content."""
    fit = found.fit
    return RunRecord(
        **_describe_run(settings, fit.matrix, costs, origin),
        recipe=settings.recipe_in_full,
        removed=_describe_removed(fit),
        svd=_describe_model(fit.model),
        correction=_describe_correction(fit),
        clustering=fit.clustered.clustering.model_dump(include={"names", "sizes", "inertia", "passes", "settled"}),
        scores=fit.insights.scores,
        series=_describe_series(found),
    )


def make_apply_record(settings: ApplySettings, found: Applied, costs: Costs, origin: Origin) -> ApplyRecord:
    """Put together what `run.json` says of a model that was applied, but for its content."""
    return ApplyRecord(
        **_describe_run(settings, found.matrix, costs, origin),
        model=found.model.model_dump(mode="json"),
        clusters=found.labels.model_dump(include={"names", "sizes", "inertia"}),
    )


def content_of(record: Record, found: object) -> str | None:
    """Digest all that results are made of, and the code: where it is the same, so are they; None where one was damaged.

    Args:
        record: of the run, as far as it has come.
        found: the references of its stages.
    """
    if record.damaged:
        return None
    told = (code_digest(), record.model_dump_json(exclude=_OF_ONE_RUN))
    digest = hashlib.sha256()
    for text in (*told, *(ref.model_dump_json() for ref in objects_of(found))):
        digest.update(f"{len(text)}:{text}".encode())
    return digest.hexdigest()


def read_record(output: Store, kind: type[R]) -> R:
    """Read back the record of the run that left the results in an output.

    Raises:
        StoreError: it is gone, or cannot be read.
    """
    data = output.files.read(RECORD)
    if data is None:
        raise StoreError(f"{output.locate(RECORD)} is gone")
    return kind.model_validate_json(data)


def _describe_run(settings: RunSettings, matrix: Matrix, costs: Costs, origin: Origin) -> dict[str, Any]:
    return {
        "origin": origin,
        "settings": settings.model_dump(mode="json"),
        "dataset": _describe_dataset(settings, matrix),
        "environments": tuple(map(json.loads, costs.environments)),
        "normalization": NORMALIZATION,
        "read": {
            "cells": sum(part.cells for part in matrix.cells),
            "skipped_cells": sum(bad.rows for bad in matrix.skipped),
            "nonzeros": sum(part.nonzeros for part in matrix.counts),
            "partitions": len(matrix.plan.partitions),
            "genes": matrix.plan.vocabulary.genes,
            "empty_cells": sum(part.empty_cells for part in matrix.counts),
            "repeated_pairs_summed": sum(part.repeated_pairs for part in matrix.counts),
        },
        "skipped": {f"column {name}": reason for name, reason in matrix.plan.left_out.items()},
        "bad_data": matrix.skipped,
        "damaged": costs.damaged,
        "stages": tuple(costs.stages),
    }


def _describe_dataset(settings: RunSettings, matrix: Matrix) -> dict[str, Any]:
    return {
        "name": settings.dataset,
        "revision": matrix.plan.revision,
        "simulated": settings.is_synthetic,
        "cells_asked_for": settings.samples,
        "cells_read": sum(part.cells.cells for part in matrix.counted),
        "ended_early": matrix.plan.exhausted,
        "converted": matrix.plan.converted,
    } | _describe_joined(matrix)


def _describe_joined(matrix: Matrix) -> dict[str, Any]:
    lookups = {lookup.on: lookup.adds for part in matrix.plan.partitions for lookup in part.lookups}
    missing: Counter[str] = Counter()
    for part in matrix.cells:
        missing.update(part.unmatched)
    joined = {on: {"columns": adds, "cells_without_a_row": missing[on]} for on, adds in lookups.items()}
    return {"joined": joined, "notes_on_joined": matrix.plan.notes} if joined else {}


def _describe_removed(fit: Fit) -> dict[str, int]:
    removed: Counter[str] = Counter()
    for part in fit.matrix.checked:
        removed.update(part.removed)
    cells = sum(part.cells.cells for part in fit.matrix.counted) - sum(part.cells for part in fit.matrix.cells)
    genes = fit.matrix.plan.vocabulary.genes - fit.prepared.order.genes
    return {"cells": cells, **removed, "genes": genes}


def _describe_correction(fit: Fit) -> dict[str, Any] | None:
    found = fit.embedded.corrected
    return None if found is None else found.model_dump(include={"batches", "rounds", "settled"})


def _describe_series(found: Findings) -> SeriesRecord | None:
    entry, place = found.entry, found.place
    if entry is None:
        return None
    return SeriesRecord(
        name=entry.series, number=entry.number, note=place.note, unchanged=place.unchanged, drift=entry.drift
    )


def _describe_model(model: Model) -> dict[str, Any]:
    return {
        "passes": model.passes,
        "rank": model.rank,
        "settled": all(model.settled),
        "shortcomings": model.shortcomings,
        "components": component_table(model).to_dicts(),
    }
