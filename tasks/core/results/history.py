"""The runs of a series as a table."""

import io
from collections.abc import Iterable
from typing import Any

import polars as pl

from tasks.core.model.series import SeriesRun, entries
from tasks.core.storage.store import Store

HISTORY, HISTORY_PICTURE = "history.parquet", "history.png"
_SCHEMA: dict[str, Any] = {
    "number": pl.Int64,
    "ended": pl.Datetime("ms", "UTC"),
    "revision": pl.String,
    "cells": pl.Int64,
    "passes": pl.Int64,
    "explained_variance": pl.Float64,
    "shared_cells": pl.Int64,
    "shards_added": pl.Int64,
    "shards_gone": pl.Int64,
    "largest_angle": pl.Float64,
    "overlap": pl.Float64,
    "agreement": pl.Float64,
    "largest_shift": pl.Float64,
    "new": pl.List(pl.Int64),
    "vanished": pl.List(pl.Int64),
    "drifted": pl.Boolean,
}


def history(runs: Iterable[SeriesRun]) -> pl.DataFrame:
    """One row a run, in the order given; what is told of a change is null for a run that is compared with none."""
    return pl.DataFrame([_row(entry) for entry in runs], schema=_SCHEMA)


def write_history(store: Store, output: Store, series: str) -> None:
    """Write `history.parquet`, a row a run of the series, the oldest first, and a picture of it."""
    from tasks.core.results import plots  # noqa: PLC0415  (only a run that gets here draws)

    table, data = history(entries(store, series)), io.BytesIO()
    table.write_parquet(data)
    output.files.write(HISTORY, data.getvalue())
    numbers, cells, explained = (table[name].to_numpy() for name in ("number", "cells", "explained_variance"))
    alike = table.select(pl.col("agreement", "overlap").cast(pl.Float64)).to_numpy()
    output.files.write(HISTORY_PICTURE, plots.history(numbers, cells, explained, alike))


def _row(entry: SeriesRun) -> dict[str, Any]:
    row = entry.model_dump(include={"number", "revision", "cells", "passes", "explained_variance"})
    row["ended"] = int(entry.ended * 1000)
    drift = entry.drift
    if drift is not None:
        row |= drift.model_dump(include={"shared_cells", "shards_added", "shards_gone", "overlap", "agreement"})
        row |= {"new": drift.new, "vanished": drift.vanished, "drifted": bool(drift.exceeded)}
        row |= {
            "largest_angle": max(drift.angles, default=None),
            "largest_shift": max(drift.shifts.values(), default=None),
        }
    return row
