"""Credentials lent to the environment, on a real S3 server."""

import os

import pytest

from tasks.core.base.errors import SourceError, StoreError
from tasks.core.storage.files import Files
from tasks.core.storage.keyring import KEY_NAMES, keyring
from tests.s3_server import BUCKET, KEY, SECRET, S3Server

RIGHT = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET}
WRONG = RIGHT | {"AWS_SECRET_ACCESS_KEY": "another"}


@pytest.fixture
def files(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Files:
    """Files opened before there were any keys."""
    for name in KEY_NAMES:
        monkeypatch.delenv(name, raising=False)
    return Files(f"s3://{BUCKET}/keyring", patience=60)


def test_the_environment_holds_what_is_lent_and_then_what_it_held(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SESSION_TOKEN", "of other keys")
    monkeypatch.setenv("AWS_PROFILE", "another")
    before = dict(os.environ)
    with keyring.lend(lambda: RIGHT):
        assert {name: os.environ.get(name) for name in (*KEY_NAMES, "AWS_PROFILE")} == RIGHT | {
            "AWS_SESSION_TOKEN": None,
            "AWS_PROFILE": None,
        }
        files.write("file", b"abc")
    assert dict(os.environ) == before
    monkeypatch.delenv("AWS_PROFILE")
    monkeypatch.delenv("AWS_SESSION_TOKEN")
    with pytest.raises(StoreError, match="no AWS credentials were found"):
        files.read("file")


def test_keys_that_are_refused_are_read_anew(files: Files) -> None:
    given = iter([WRONG, WRONG | {"AWS_SECRET_ACCESS_KEY": "a third"}, RIGHT])
    with keyring.lend(lambda: next(given)):
        files.write("file", b"abc")
        assert files.read("file") == b"abc"
    assert next(given, None) is None


@pytest.mark.parametrize("fails", [False, True])
def test_keys_that_stay_wrong_are_told_at_once(files: Files, *, fails: bool) -> None:
    reads: list[int] = []

    def read() -> dict[str, str]:
        if reads and fails:
            raise SourceError("nothing there")
        reads.append(1)
        return WRONG

    with keyring.lend(read), pytest.raises(StoreError, match="signature"):
        files.write("file", b"abc")


def test_one_renewal_does_for_all_who_were_refused() -> None:
    given = iter([WRONG, RIGHT])
    with keyring.lend(lambda: next(given)):
        seen = keyring.changes
        assert keyring.renew(seen)
        assert keyring.renew(seen)
        assert next(given, None) is None
