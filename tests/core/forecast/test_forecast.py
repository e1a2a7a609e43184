"""What a run would take: its arithmetic, from rates that are made up, and what is known of a dataset offline."""

import json
from pathlib import Path
from typing import Any

import pytest

from tasks.core.base.errors import SettingsError
from tasks.core.base.settings import Settings
from tasks.core.dataset.plan import make_plan
from tasks.core.dataset.synthetic import write_dataset
from tasks.core.forecast.calibration import calibrate
from tasks.core.forecast.extent import TAHOE, check_known, extent_of
from tasks.core.forecast.forecast import Forecast, forecast
from tasks.core.forecast.rates import UNITS, Rates, read_rates
from tasks.core.forecast.stages import StageForecast, svd_passes
from tasks.core.forecast.text import as_text, bytes_of, time_of
from tests.small_dataset import gene_table, random_cells, table_of
from tests.small_dataset import write_dataset as write_small

RATES = Rates(
    machine="a machine",
    cells=5_000,
    pca_dim=50,
    clusters=10,
    nonzeros=1_400,
    source_bytes=2_400,
    prepared=0.1,
    seconds=dict.fromkeys(UNITS, 1e-8) | {"streaming": 3.6e-8},
    stored={"streaming": 2.6, "matrix": 2.6, "normalization": 3.0, "preparation": 4.0},
    memory={"streaming": 2e8},
    write_seconds=1e-9,
    parquet_metadata=13,
    csv_metadata=90,
    csv_number=10,
)


def plan_of(rates: Rates = RATES, price: float | None = None, network: float | None = None, **given: Any) -> Forecast:
    settings = Settings(**{"workers": 2, **given})
    return forecast(settings, extent_of(settings, rates), rates, price, network)


def stage_of(plan: Forecast, name: str) -> StageForecast:
    return next(stage for stage in plan.stages if stage.stage == name)


def test_workers_share_what_they_can() -> None:
    stage = StageForecast(stage="a", task_runs=1, spread=80, combined=10, alone=5, waits=10)
    assert stage.seconds(1) == pytest.approx(105)
    assert stage.seconds(4) == pytest.approx(5 + 100 / (4 * 0.85))
    # However many there are, one thread adds up.
    assert stage.seconds(1_000) == pytest.approx(15)
    assert stage.model_copy(update={"at_least": 60.0}).seconds(1_000) == pytest.approx(65)
    assert stage.core_seconds == pytest.approx(5 + 90 / 0.85)


def test_the_whole_of_tahoe_from_its_known_sizes() -> None:
    plan = plan_of(samples="all", workers=32, price=0.04)
    extent = plan.extent
    assert (extent.shards, extent.cells, extent.partitions) == (3_388, 95_624_334, 10_164)
    # Of the 28 thousand cells of a shard, 10 are a partition, and 11 more are read with the first.
    assert extent.source_bytes == pytest.approx(337.6e9, rel=1e-3)
    assert extent.nonzeros == pytest.approx(95_624_334 * 1_427)
    streaming = stage_of(plan, "streaming")
    assert streaming.spread == pytest.approx(3.6e-8 * extent.nonzeros)
    assert (streaming.read, streaming.written) == pytest.approx((extent.source_bytes, 2.6 * extent.nonzeros))
    svd = stage_of(plan, "svd")
    assert svd.passes == pytest.approx(23 + 2 / 12)
    assert svd.read == pytest.approx(3.0 * extent.nonzeros * svd.passes, rel=0.01)
    assert plan.written == sum(stage.written for stage in plan.stages)
    assert plan.room > plan.written
    assert plan.results == pytest.approx(95_624_334 * (13 + 200 + 90 + 65 + 500), rel=0.001)
    assert plan.worker_memory == 2e8
    assert [span.workers for span in plan.spans] == [32, 2, 16, 64]
    for span in plan.spans:
        assert span.cost == pytest.approx(0.04 * span.hours * span.workers)
    assert plan.core_hours == pytest.approx(sum(stage.core_seconds for stage in plan.stages) / 3600)


def test_the_network_bounds_what_comes_from_the_hub_alone() -> None:
    slow = plan_of(samples="all", network=1e7)
    assert stage_of(slow, "streaming").seconds(64) == pytest.approx(slow.extent.source_bytes / 1e7)
    assert "at up to 10 MB/s" in as_text(slow)
    assert stage_of(plan_of(dataset="synthetic", samples=9_000, network=1.0), "streaming").at_least == 0


def test_a_recipe_adds_its_stages() -> None:
    plain, atlas = plan_of(samples=100_000), plan_of(samples=100_000, recipe="atlas")
    added = {stage.stage for stage in atlas.stages} - {stage.stage for stage in plain.stages}
    assert added == {"quality", "genes", "preparation", "correction", "leiden", "markers", "map", "scores"}
    assert stage_of(atlas, "svd").spread < stage_of(plain, "svd").spread / 5
    without = RATES.model_copy(update={"seconds": {"simulation": 1.0, "streaming": 1.0}})
    with pytest.raises(SettingsError, match=r"has no rate of 'matrix' \(a nonzero\): it was measured for other"):
        plan_of(without)


def test_passes_hang_on_the_cells_and_have_a_bound() -> None:
    passes = [svd_passes(Settings(pca_dim=50), simulated=simulated) for simulated in (True, False)]
    assert passes == [8, 23]
    assert svd_passes(Settings(pca_dim=75, svd_max_passes=20), simulated=False) == 20


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three shards of unlike cells, in row groups of ten."""
    folder = tmp_path_factory.mktemp("folder")
    tables = [table_of(random_cells(number, 40, draw=number)) for number in (30, 45, 52)]
    return write_small(folder / "dataset", tables, gene_table(40))


@pytest.mark.parametrize(
    "given",
    [
        {"samples": "all"},
        {"samples": 55},
        {"samples": 41, "partition_cells": 7},
        {"samples": 70, "sampling": "spread"},
        {"samples": 500, "sampling": "spread", "partition_cells": 12},
    ],
)
def test_a_folder_is_known_from_its_footers(folder: Path, tmp_path: Path, given: dict[str, Any]) -> None:
    settings = Settings(dataset=str(folder), store=str(tmp_path / "store"), **given)
    extent = extent_of(settings, RATES)
    assert not (tmp_path / "store").exists()
    planned = make_plan(settings)
    assert (extent.cells, extent.partitions) == (planned.cells, len(planned.partitions))
    assert extent.shards == len({part.shard_name for part in planned.partitions})
    assert extent.genes == 40
    if given["samples"] == "all":
        cells = [cell for number in (30, 45, 52) for cell in random_cells(number, 40, draw=number)]
        assert extent.nonzeros == sum(len(cell.genes) - 1 for cell in cells)


def test_a_plan_is_json_and_its_rates_are_read_from_it(tmp_path: Path) -> None:
    plan = plan_of(samples=10_000)
    path = tmp_path / "plan.json"
    path.write_text(plan.model_dump_json())
    assert Forecast.model_validate_json(path.read_text()) == plan
    assert read_rates(path) == RATES
    path.write_text(RATES.model_dump_json())
    assert read_rates(path) == RATES


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "holds no rates: Expecting property name"),
        ("[1]", "holds no rates: 'list' object has no"),
        ("{}", "'machine': Field required"),
        (json.dumps(RATES.model_dump() | {"write_seconds": -1}), "'write_seconds': Input should be greater than or"),
        (RATES.model_dump_json().replace("3.6e-8", '"fast"'), "'seconds.streaming': Input should be a valid number"),
        (RATES.model_dump_json().replace("3.6e-8", "NaN"), "'seconds.streaming': Input should be a finite number"),
    ],
)
def test_rates_that_are_none_are_refused_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "rates.json"
    path.write_text(text)
    with pytest.raises(SettingsError) as refused:
        read_rates(path)
    assert f"--plan_rates {path}" in str(refused.value)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"dataset": "somebody/else"}, f"it knows the sizes of {TAHOE} and reads those of a folder"),
        ({"dataset": "synthetic", "samples": "all"}, "simulated cells have no end"),
    ],
)
def test_what_is_not_known_offline_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        check_known(Settings(**given))


def test_a_calibration_measures_what_a_forecast_needs(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "dataset", 1, seed=3)
    recipe = {"min_genes": 100, "genes": "seurat", "correction": "harmony", "batch": "plate", "markers": 5}
    settings = Settings(dataset=str(dataset), samples=5_000, store=str(tmp_path / "store"), clusters="10,12", **recipe)
    rates = calibrate(settings, enough=0.0)
    plan = forecast(settings, extent_of(settings, rates), rates)
    assert not (tmp_path / "store").exists()
    assert 0 < rates.prepared < 1
    assert all(seconds >= 0 for seconds in rates.seconds.values())
    assert plan.extent.simulated
    # Bytes do not hang on how busy the machine is.
    assert rates.stored["normalization"] == pytest.approx(3.0, rel=0.1)
    assert rates.source_bytes == pytest.approx(plan.extent.source_bytes / 5_000, rel=0.05)
    assert "core-hours" in as_text(plan)


def test_numbers_are_told_in_units_that_suit_them() -> None:
    assert [bytes_of(size) for size in (0, 999.7, 337.6e9, 2e15)] == ["0 B", "1 kB", "338 GB", "2e+03 TB"]
    assert [time_of(hours) for hours in (0.01, 0.5, 40)] == ["36 s", "30 min", "40.0 h"]
