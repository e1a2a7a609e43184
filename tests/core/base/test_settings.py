import os
from io import StringIO

import pytest
from joblib.externals.loky.backend import context
from pydantic import ValidationError

from tasks.core.base.errors import SettingsError
from tasks.core.base.refusals import explain
from tasks.core.base.settings import Settings, available_cores


def test_defaults_are_the_contract() -> None:
    settings = Settings()
    assert (settings.dataset, settings.samples, settings.pca_dim, settings.clusters) == (
        "tahoebio/Tahoe-100M",
        20_000,
        50,
        10,
    )
    assert (settings.store, settings.output, settings.seed, settings.revision) == (".store", ".", 42, None)


def test_every_setting_is_described() -> None:
    assert all(field.description for field in Settings.model_fields.values())


@pytest.mark.parametrize(
    ("setting", "value", "expected"),
    [
        ("samples", 0, "--samples 0: input should be greater than 0"),
        ("samples", "many", "--samples many: input should be a valid integer"),
        ("pca_dim", 0, "--pca_dim 0: input should be greater than or equal to 1"),
        ("clusters", -1, "--clusters -1: input should be greater than or equal to 1"),
        ("seed", -1, "--seed -1: input should be greater than or equal to 0"),
        ("dataset", "lat\udce9in", "in: is not UTF-8: give what has this name another one, or a link to it"),
        ("smples", 5, "there is no setting 'smples'"),
        ("store", "s3://id:secret@bucket/x", "credentials do not belong in a URL"),
    ],
)
def test_refusals_are_one_line_with_value_and_bound(setting: str, value: object, expected: str) -> None:
    with pytest.raises(ValidationError) as refused:
        Settings.model_validate({setting: value})
    line = explain(refused.value)
    assert expected in line
    assert "\n" not in line


def test_a_refused_url_is_not_repeated() -> None:
    with pytest.raises(ValidationError) as refused:
        Settings(store="s3://id:hunter2@bucket/x")
    assert "hunter2" not in explain(refused.value)


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(ValidationError) as refused:
        Settings(samples=0, clusters=0)
    assert "--samples 0" in explain(refused.value)
    assert "--clusters 0" in explain(refused.value)


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"cpu.max": "150000 100000\n"}, 2),
        ({"cpu.max": "10000 100000\n"}, 1),
        ({"cpu.max": "max 100000\n"}, 64),
        ({"cpu/cpu.cfs_quota_us": "300000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 3),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 64),
        ({}, 64),
    ],
)
def test_a_container_gets_workers_by_its_share_of_the_host(
    files: dict[str, str], cores: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As the system tells it, of both its versions.
    system = {f"/sys/fs/cgroup/{name}": text for name, text in files.items()}
    monkeypatch.setattr(os.path, "exists", system.__contains__)
    monkeypatch.setattr(context, "open", lambda name: StringIO(system[name]), raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(64), raising=False)
    assert available_cores() == cores
    assert Settings().threads == cores


@pytest.mark.parametrize("given", ["four", "1.5", ""])
def test_a_number_of_cores_that_is_none_is_named(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", given)
    with pytest.raises(SettingsError, match=r"^LOKY_MAX_CPU_COUNT=.* is no whole number: ") as told:
        available_cores()
    assert "\n" not in str(told.value)
