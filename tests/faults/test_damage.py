"""What a store may go through between and within runs, on a local disk and on S3; results stay the same."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from flows.command_line import main
from tasks.core.model.krylov_passes import KrylovPasses
from tasks.core.storage.files import Files
from tasks.core.storage.store import MANIFEST
from tests.faults.commands import record, results
from tests.faults.tally import fault
from tests.s3_server import SECRET

SETTINGS: dict[str, object] = {"samples": 60, "pca_dim": 5, "clusters": 2, "partition_cells": 20, "block_cells": 7}
# Each reads what those before it have left.
STAGES = ("vocabulary", "streaming", "matrix", "gene_order", "normalization", "svd", "embedding", "clustering")
Job = Callable[..., dict[str, bytes]]


@pytest.fixture
def job(dataset: Path, place: str, prefect_server: None) -> Job:
    """Run the job with store and output in one place; give the results' bytes."""

    def run(output: str = "output", **flags: object) -> dict[str, bytes]:
        given = SETTINGS | {"dataset": dataset, "store": f"{place}/store", "output": f"{place}/{output}"} | flags
        assert main([word for name, value in given.items() for word in (f"--{name}", str(value))]) == 0
        return results(f"{place}/{output}")

    return run


@pytest.fixture
def clean(job: Job) -> dict[str, bytes]:
    """Results of a run that nothing happened to."""
    made = job()
    assert all(made.values())
    return made


def objects(store: Files, stage: str) -> list[str]:
    return [entry.path for entry in store.walk(stage) if not entry.path.endswith(MANIFEST)]


def forget_after(store: Files, stage: str) -> None:
    """Make the stages that read what this one left run again."""
    for later in STAGES[STAGES.index(stage) + 1 :]:
        for entry in store.walk(later):
            if entry.path.endswith(MANIFEST):
                store.remove(entry.path)


def test_a_store_and_an_output_on_s3_are_as_good_as_local_ones(
    job: Job, clean: dict[str, bytes], dataset: Path, tmp_path: Path
) -> None:
    assert job(store=tmp_path / "here", output="again") == clean


def test_a_second_run_finds_everything(job: Job, clean: dict[str, bytes], place: str) -> None:
    assert job("again") == clean
    again = record(f"{place}/again")
    assert again["damaged"] == []
    made = {cost["stage"] for cost in again["stages"] if cost["made"]}
    assert made == {"plan", "export", "report"}, "these are always made"


def flipped(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]


DAMAGES: dict[str, Callable[[bytes, random.Random], bytes | None]] = {
    "flipped bit": flipped,
    "truncated": lambda data, rng: data[: rng.randrange(1, len(data))],
    "empty": lambda _data, _rng: b"",
    "deleted": lambda _data, _rng: None,
}


def harm(store: Files, path: str, damage: str, rng: random.Random) -> None:
    harmed = DAMAGES[damage](store.read(path) or b"", rng)
    if harmed is None:
        store.remove(path)
    else:
        store.write(path, harmed)


@pytest.mark.most_faults(13)
def test_a_damaged_object_is_made_again(job: Job, clean: dict[str, bytes], place: str, faults: int) -> None:
    store, rng = Files(f"{place}/store", patience=5), random.Random(0)
    for number in range(faults * len(STAGES)):
        stage = STAGES[number % len(STAGES)]
        damage = list(DAMAGES)[(number + number // len(STAGES)) % len(DAMAGES)]
        path = rng.choice(objects(store, stage))
        whole = store.read(path)
        with fault(f"damage: {damage}"):
            harm(store, path, damage, rng)
            forget_after(store, stage)
            assert job(f"again-{number}") == clean, (stage, damage)
            assert store.read(path) == whole, (stage, damage)


def test_a_damaged_pass_of_the_svd_is_made_again(
    job: Job, place: str, monkeypatch: pytest.MonkeyPatch, faults: int
) -> None:
    # As runs do that are killed before they remove what they no longer need.
    monkeypatch.setattr(KrylovPasses, "remove", lambda *_: None)
    clean, store, rng = job(), Files(f"{place}/store", patience=5), random.Random(0)
    for damage in list(DAMAGES)[: faults + 1]:
        with fault(f"damage: {damage}"):
            harm(store, rng.choice(objects(store, "svd_pass")), damage, rng)
            forget_after(store, "normalization")
            assert job(f"again-{damage.replace(' ', '-')}") == clean, damage


def test_a_damaged_manifest_is_made_again(job: Job, clean: dict[str, bytes], place: str) -> None:
    store = Files(f"{place}/store", patience=5)
    for entry in list(store.walk()):
        if entry.path.endswith(MANIFEST):
            store.write(entry.path, b"{" if len(entry.path) % 2 else b"")
    with fault("damage: every manifest"):
        assert job("again") == clean


def test_damage_in_many_objects_at_once_is_told_and_repaired(job: Job, clean: dict[str, bytes], place: str) -> None:
    store, rng = Files(f"{place}/store", patience=5), random.Random(0)
    for path in objects(store, "matrix"):
        store.write(path, flipped(store.read(path) or b"", rng))
    forget_after(store, "matrix")
    with fault("damage: every object of a stage"):
        assert job("again") == clean
        told = "; ".join(record(f"{place}/again")["damaged"])
        assert told.count(" is damaged: ") >= len(objects(store, "matrix")) // 3


def everything(place: str) -> Iterator[tuple[str, bytes]]:
    files = Files(place, patience=5)
    for entry in files.walk():
        yield entry.path, files.read(entry.path) or b""


def test_nothing_on_the_store_is_a_pickle_or_a_secret(job: Job, clean: dict[str, bytes], place: str) -> None:
    known: dict[str, Any] = {
        ".html": b"<!DOCTYPE html>",
        ".arrow": b"ARROW1",
        ".json": b"{",
        ".parquet": b"PAR1",
        ".csv": b"",
        ".png": b"\x89PNG",
    }
    for path, data in everything(place):
        suffix = Path(path).suffix
        assert suffix in known, path
        assert data.startswith(known[suffix]), path
        assert SECRET.encode() not in data
