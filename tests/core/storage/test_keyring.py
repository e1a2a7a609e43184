"""Credentials held for the file systems that are opened with their name, on a real S3 server."""

import os
import pickle
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest

from tasks.core.base.errors import SourceError, StoreError
from tasks.core.storage.files import Files, filesystem_of
from tasks.core.storage.keyring import KEY_NAMES, Keyring, keyring
from tasks.core.storage.store import Store
from tests.s3_server import BUCKET, KEY, SECRET, S3Server

RIGHT = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET}
WRONG = RIGHT | {"AWS_SECRET_ACCESS_KEY": "another"}
PLACE = f"s3://{BUCKET}/keyring"


@pytest.fixture
def block(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """A name of credentials, where the environment has none."""
    for name in KEY_NAMES:
        monkeypatch.delenv(name, raising=False)
    return f"secret/{uuid4().hex}"


def test_credentials_are_for_those_who_name_them_and_in_no_environment(
    block: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Of other keys: neither goes with those that are held.
    monkeypatch.setenv("AWS_SESSION_TOKEN", "of other keys")
    monkeypatch.setenv("AWS_PROFILE", "another")
    before = dict(os.environ)
    keyring.hold(block, lambda: RIGHT)
    files = Files(PLACE, 60, block)
    files.write("file", b"abc")
    assert files.read("file") == b"abc"
    assert filesystem_of(PLACE, block).cat_file(f"{files.root}/file") == b"abc"
    assert dict(os.environ) == before
    assert SECRET.encode() not in pickle.dumps(Store.at(PLACE, 60, block))
    monkeypatch.delenv("AWS_PROFILE")
    monkeypatch.delenv("AWS_SESSION_TOKEN")
    with pytest.raises(StoreError, match="no AWS credentials were found"):
        Files(PLACE, 60).read("file")


def test_credentials_of_two_names_never_mix(block: str) -> None:
    keyring.hold(block, lambda: RIGHT)
    keyring.hold(f"{block}-wrong", lambda: WRONG)
    places = [(block, f"file-{at}") for at in range(20)] + [(f"{block}-wrong", "file")] * 20

    def write(place: tuple[str, str]) -> bool:
        name, path = place
        try:
            Store.at(PLACE, 60, name).files.write(path, b"abc")
        except StoreError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(write, places)) == [True] * 20 + [False] * 20


def test_credentials_may_have_a_region_and_an_endpoint(
    block: str, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint = s3_server.environment["AWS_ENDPOINT_URL"]
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    keyring.hold(block, lambda: RIGHT | {"AWS_REGION": "eu-central-1", "AWS_ENDPOINT_URL": endpoint})
    Files(PLACE, 5, block).write("file", b"abc")
    fs = filesystem_of(PLACE, block)
    fs.connect()
    assert fs.s3.meta.region_name == "eu-central-1"


def test_credentials_that_nobody_has_read_are_told(block: str) -> None:
    with pytest.raises(StoreError, match=f"the credentials of {block} have not been read"):
        Files(PLACE, 60, block).write("file", b"")


def test_keys_that_are_refused_are_read_anew(block: str) -> None:
    given = iter([WRONG, WRONG | {"AWS_SECRET_ACCESS_KEY": "a third"}, RIGHT])
    keyring.hold(block, lambda: next(given))
    files = Files(PLACE, 60, block)
    files.write("file", b"abc")
    assert files.read("file") == b"abc"
    assert next(given, None) is None


@pytest.mark.parametrize("fails", [False, True])
def test_keys_that_stay_wrong_are_told_at_once(block: str, *, fails: bool) -> None:
    reads: list[int] = []

    def read() -> dict[str, str]:
        if reads and fails:
            raise SourceError("nothing there")
        reads.append(1)
        return WRONG

    keyring.hold(block, read)
    with pytest.raises(StoreError, match="signature"):
        Files(PLACE, 60, block).write("file", b"abc")


def test_one_renewal_does_for_all_who_were_refused() -> None:
    held, given = Keyring(), iter([WRONG, RIGHT])
    held.hold("name", lambda: next(given))
    seen = held.changes("name")
    assert held.renew("name", seen)
    assert held.renew("name", seen)
    assert next(given, None) is None
