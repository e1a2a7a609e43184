"""A process in surroundings that its libraries would not work in."""

import os
from pathlib import Path

import pytest

from tasks.core.base.surroundings import fit_surroundings

fit = fit_surroundings.__wrapped__
CACHES = ("MPLCONFIGDIR", "NUMBA_CACHE_DIR")


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*CACHES, "XDG_CACHE_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name in (*CACHES, "MPLBACKEND", "HOME"):
        # Set and restored, whatever the test sets.
        monkeypatch.setenv(name, os.environ.get(name, ""))


def test_a_home_that_can_be_written_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert fit() is None
    assert os.environ["MPLBACKEND"] == "agg"
    assert not any(os.environ[name] for name in CACHES)


def test_without_a_home_caches_lie_in_a_folder_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    # Not even root can make a folder there.
    monkeypatch.setenv("HOME", "/proc/nobody")
    own = fit()
    assert own is not None
    assert {os.environ[name] for name in CACHES} == {str(own)}
    assert os.environ["HOME"] == "/proc/nobody"
    own.rmdir()


def test_a_user_that_the_system_does_not_know_gets_a_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody() -> Path:
        raise RuntimeError

    monkeypatch.setattr(Path, "home", nobody)
    for name in CACHES:
        monkeypatch.setenv(name, str(tmp_path))
    own = fit()
    assert own is not None
    assert os.environ["HOME"] == str(own)
    assert {os.environ[name] for name in CACHES} == {str(tmp_path)}
    own.rmdir()
