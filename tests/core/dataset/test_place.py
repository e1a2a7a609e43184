"""What people give as a dataset, and that its files are those of these names, whatever characters they have."""

import os
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from huggingface_hub import HfApi, constants
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from tasks.core.base.errors import SourceError, UnreachableError
from tasks.core.base.settings import Settings
from tasks.core.dataset.landing import land_cells
from tasks.core.dataset.place import Place, find_place, resolve, shard_names
from tasks.core.dataset.plan import make_plan
from tasks.core.dataset.source import stream_partition
from tasks.core.numerics.block import decode_table
from tasks.core.references.cells import Plan
from tasks.core.storage.store import store_of
from tests.conftest import REAL_CELLS
from tests.s3_server import BUCKET
from tests.small_dataset import cell, gene_table, random_cells, table_of, write_dataset, write_random_dataset

ODD_NAMES = ["batch[1]", "b?", "b*", "a::b", "a#b", "a%20b", "a b", "~", "[D_DATA]", "é", "a@b", "{a,b}", "zip::x"]


def plan_of(dataset: str, store: Path, **given: object) -> tuple[Plan, Settings]:
    settings = Settings.model_validate({"dataset": dataset, "store": str(store), "samples": "all"} | given)
    return make_plan(settings), settings


def drugs_of(dataset: str, store: Path, **given: object) -> set[str]:
    """Drugs of the cells that are landed of a dataset."""
    plan, settings = plan_of(dataset, store, **given)
    cells = [land_cells(part, plan.vocabulary, settings).result for part in plan.partitions]
    return {drug for part in cells for drug in decode_table(store_of(settings).get(part.metadata))["drug"].to_pylist()}


def write_of_one_drug(folder: Path, drug: str) -> Path:
    return write_dataset(folder, [table_of([cell({3: 1.0}, drug=drug)] * 12)], gene_table(10))


@pytest.mark.parametrize("name", ODD_NAMES)
def test_a_folder_is_the_one_of_its_name(tmp_path: Path, name: str) -> None:
    folder = write_of_one_drug(tmp_path / "d" / name, "its own")
    for like in ("batch1", "bx", "bxx", "a", "D", "b"):
        if like != name:
            write_of_one_drug(tmp_path / "d" / like, "another's")
    drugs = pa.table({"drug": ["its own"], "targets": ["t"]})
    pq.write_table(drugs, folder / "metadata" / "drug_metadata.parquet")
    assert drugs_of(str(folder), tmp_path / "store") == {"its own"}
    assert drugs_of(str(folder), tmp_path / "store", where="targets == 't'", join=True) == {"its own"}


@pytest.mark.parametrize("name", ["batch[1]", "b?", "a::b", "a#b", "a%20b", "a b", "~"])
def test_a_folder_on_s3_is_the_one_of_its_name(tmp_path: Path, s3_server: object, name: str) -> None:
    fs, place = fsspec.filesystem("s3"), f"{BUCKET}/{uuid4().hex}"
    for folder, drug in ((name, "its own"), ("batch1", "another's"), ("bx", "another's"), ("a", "another's")):
        made = write_of_one_drug(tmp_path / folder, drug)
        for file in filter(Path.is_file, made.rglob("*")):
            fs.pipe_file(f"{place}/{folder}/{file.relative_to(made)}", file.read_bytes())
    assert drugs_of(f"s3://{place}/{name}/", tmp_path / "store") == {"its own"}
    with pytest.raises(SourceError, match=r"has no shards of cells: a dataset has its cells in data/train-\*\.parquet"):
        plan_of(f"s3://{place}/nowhere", tmp_path / "store")
    for part in ("data/train-00000-of-00001.parquet", "README.md", "metadata/gene_metadata.parquet"):
        with pytest.raises(SourceError, match="give the folder of the whole dataset, 's3://") as told:
            plan_of(f"s3://{place}/batch1/{part}", tmp_path / "store")
        assert str(told.value).endswith(f"'s3://{place}/batch1'")
    for part in ("data", "metadata"):
        with pytest.raises(SourceError, match=f"give 's3://{place}/batch1'"):
            plan_of(f"s3://{place}/batch1/{part}", tmp_path / "store")


def test_the_cases_with_brackets_give_their_own_cells(tmp_path: Path) -> None:
    case = REAL_CELLS / "cases" / "brackets"
    if not case.is_dir():
        pytest.skip("the cases are not at hand")
    plan, settings = plan_of(str(case / "batch[1]"), tmp_path)
    assert sum(land_cells(part, plan.vocabulary, settings).result.nonzeros for part in plan.partitions) == 2_946


def test_home_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    write_of_one_drug(tmp_path / "cells", "a")
    assert drugs_of("~/cells", tmp_path / "store") == {"a"}
    monkeypatch.chdir(tmp_path)
    write_of_one_drug(tmp_path / "~" / "cells", "b")
    assert drugs_of("./~/cells", tmp_path / "store") == {"b"}
    with pytest.raises(SourceError, match="there is no folder '~/nowhere'"):
        plan_of("~/nowhere", tmp_path / "store")
    with pytest.raises(SourceError, match="home folder that is not known"):
        plan_of("~nobody-of-this-name/cells", tmp_path / "store")


@pytest.mark.parametrize("part", ["data/train-00000-of-00002.parquet", "README.md", "metadata/gene_metadata.parquet"])
def test_a_file_of_a_dataset_is_told_what_to_give(dataset: Path, part: str) -> None:
    with pytest.raises(SourceError, match="is a file: give the folder of the whole dataset") as told:
        find_place(str(dataset / part))
    assert str(told.value).endswith(f"'{dataset}'")


@pytest.mark.parametrize("part", ["data", "metadata", "data/"])
def test_a_folder_of_a_dataset_is_told_what_to_give(dataset: Path, part: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=f"has no shards of cells: give '{dataset}'"):
        plan_of(str(dataset / part), tmp_path)


HUB = ("tahoebio/Tahoe-100M", None)


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("tahoebio/Tahoe-100M", HUB),
        ("hf://datasets/tahoebio/Tahoe-100M", HUB),
        ("hf://datasets/tahoebio/Tahoe-100M@v1", (HUB[0], "v1")),
        ("datasets/tahoebio/Tahoe-100M", HUB),
        ("https://huggingface.co/datasets/tahoebio/Tahoe-100M", HUB),
        ("https://huggingface.co/datasets/tahoebio/Tahoe-100M/", HUB),
        ("https://hf.co/datasets/tahoebio/Tahoe-100M?row=1#x", HUB),
        ("https://huggingface.co/datasets/tahoebio/Tahoe-100M/tree/refs%2Fpr%2F1", (HUB[0], "refs/pr/1")),
        ("https://huggingface.co/datasets/tahoebio/Tahoe-100M/viewer/expression_data/train", HUB),
        ("s3://bucket/some/folder/", ("s3://bucket/some/folder", None)),
        ("s3://bucket", ("s3://bucket", None)),
    ],
)
def test_a_dataset_may_be_given_by_its_address(given: str, found: tuple[str, str | None]) -> None:
    place = find_place(given)
    assert (place.name, place.revision) == found


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("https://hf.co/datasets/a/b/blob/main/data/train-0.parquet", "give the id of the whole, a/b"),
        ("hf://datasets/tahoebio/Tahoe-100M/data", "id of the whole, tahoebio/Tahoe-100M"),
        ("hf://tahoebio/Tahoe-100M", "give an id on the Hub such as"),
        ("https://example.com/datasets/a/b", "give an id on the Hub such as"),
        ("gs://bucket/folder", "give an id on the Hub such as"),
        ("s3:/bucket/folder", "give 's3://bucket/folder'"),
        ("s3a://bucket/folder", "give 's3://bucket/folder'"),
        ("s3:bucket/folder", "give 's3://bucket/folder'"),
        ("S3://bucket/folder", "give 's3://bucket/folder'"),
        ("s3://", "give 's3://bucket/folder'"),
        ("a/b\0", "there is no folder"),
        ("x" * 5_000, "there is no folder"),
        ("~/\0", "there is no folder"),
        ("some/where/else", "there is no folder 'some/where/else', and it is no id on the Hub"),
        ("/some/where", "there is no folder '/some/where', and it is no id on the Hub"),
    ],
)  # fmt: skip
def test_what_is_no_dataset_is_told_what_to_give(given: str, told: str) -> None:
    with pytest.raises(SourceError) as refused:
        find_place(given)
    assert told in str(refused.value)
    assert "\n" not in str(refused.value)


def test_two_revisions_are_refused() -> None:
    with pytest.raises(SourceError, match="of revision 'v1', and --revision says 'v2'"):
        find_place("hf://datasets/tahoebio/Tahoe-100M@v1", "v2")
    assert find_place("hf://datasets/tahoebio/Tahoe-100M@v1", "v1").revision == "v1"


@pytest.mark.parametrize(
    "name",
    ["train-00000-of-00002 (1).parquet", "train-00000-of-00002.copy.parquet", "train-00000-of-00003.parquet"],
)
def test_a_second_copy_of_a_shard_is_named(dataset: Path, name: str) -> None:
    shutil.copyfile(dataset / "data" / "train-00000-of-00002.parquet", dataset / "data" / name)
    with pytest.raises(
        SourceError, match=r"two shards of number 0, .* take the one away that is a second copy"
    ) as told:
        shard_names(Place(str(dataset)))
    assert f"data/{name}" in str(told.value)


def test_offline_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(SourceError, match=r"^HF_HUB_OFFLINE says to stay offline, and 'some/dataset' is on the Hub"):
        resolve("some/dataset", None, None)


REFUSALS: list[tuple[int, type[Exception] | None, str]] = [
    (401, None, "refuses the token of HF_TOKEN"),
    (403, None, "refuses the token of HF_TOKEN"),
    (403, GatedRepoError, "is gated: ask for access at .*/datasets/some/dataset, then give the token"),
    (404, RepositoryNotFoundError, "or it is private and needs the token of who may read it in HF_TOKEN"),
    (404, RevisionNotFoundError, "has no revision 'v9' on the Hub"),
]


@pytest.mark.parametrize(("status", "kind", "told"), REFUSALS)
def test_what_the_hub_refuses_is_told_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch, status: int, kind: Any, told: str
) -> None:
    answer: Any = SimpleNamespace(status_code=status, headers={}, request=None)

    def refuses(*_: object, **__: object) -> None:
        raise (kind or HfHubHTTPError)("refused", response=answer)

    monkeypatch.setattr(HfApi, "dataset_info", refuses)
    with pytest.raises(SourceError, match=told) as refused:
        resolve("some/dataset", "v9", None)
    assert not isinstance(refused.value, UnreachableError)
    assert ("without a network" in str(refused.value)) == (kind is RepositoryNotFoundError)


@pytest.mark.parametrize("form", ["file:{}", "file://{}", "FILE://{}", "file://localhost{}", "File://LocalHost{}"])
def test_a_folder_may_be_given_as_a_url(tmp_path: Path, form: str) -> None:
    folder = tmp_path / "a folder, 50%"
    folder.mkdir()
    for path in (quote(str(folder)), str(folder)):
        assert find_place(form.format(path)) == Place(str(folder))
    literal = tmp_path / "with%20percent"
    literal.mkdir()
    assert find_place(form.format(literal)) == Place(str(literal))


@pytest.mark.parametrize("given", ["file://host/folder", "file://~/folder", "file:/none/such", "FILE://"])
def test_a_url_of_no_folder_is_told_in_one_line(given: str) -> None:
    with pytest.raises(SourceError, match=r"give its path, or file:///path|there is no folder '/none/such'"):
        find_place(given)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere such names cannot be")
def test_names_that_are_not_utf_8_are_told_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = os.fsencode(tmp_path) + b"/lat\xe9in"
    Path(os.fsdecode(folder + b"/data")).mkdir(parents=True)
    with pytest.raises(
        SourceError, match=r"/lat\\udce9in' is not UTF-8: give the folder another name, or a link to it"
    ):
        find_place(os.fsdecode(folder))
    monkeypatch.chdir(os.fsdecode(folder))
    with pytest.raises(SourceError, match="is not UTF-8"):
        find_place("data")
    (tmp_path / "link").symlink_to(os.fsdecode(folder))
    Path(os.fsdecode(folder + b"/data/train-0\xe9.parquet")).touch()
    with pytest.raises(SourceError, match="is not UTF-8: give the shard another name"):
        shard_names(find_place(str(tmp_path / "link")))


def test_a_shard_that_changed_since_the_plan_is_not_read(dataset: Path, tmp_path: Path) -> None:
    plan, settings = plan_of(str(dataset), tmp_path / "store", partition_cells=20)
    shard = dataset / "data" / "train-00000-of-00002.parquet"
    before = shard.stat()
    # With the same time.
    pq.write_table(table_of(random_cells(30, 40, seed=9)), shard, row_group_size=10)
    os.utime(shard, ns=(before.st_atime_ns, before.st_mtime_ns))
    for part in plan.partitions[:2]:
        with pytest.raises(SourceError, match=r"changed during the run: shard data/train-00000.* run again"):
            land_cells(part, plan.vocabulary, settings)
    for part in plan.partitions[2:]:
        assert land_cells(part, plan.vocabulary, settings).result.cells


def test_a_shard_of_the_same_size_time_and_footer_is_another(tmp_path: Path) -> None:
    """Its footer tells the bounds of the counts, and not all of them."""

    def write(counts: float) -> Path:
        cells = [cell({3: 1.0, 4: counts if at == 5 else 7.0, 5: 100.0}) for at in range(20)]
        return write_dataset(tmp_path / "d", [table_of(cells)], gene_table(10)) / "data/train-00000-of-00001.parquet"

    shard = write(9)
    before, content = shard.stat(), shard.read_bytes()
    plan, settings = plan_of(str(tmp_path / "d"), tmp_path / "store")
    write(8)
    os.utime(shard, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (shard.stat().st_size, shard.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    assert shard.read_bytes() != content
    with pytest.raises(SourceError, match="changed during the run"):
        land_cells(plan.partitions[0], plan.vocabulary, settings)
    assert plan_of(str(tmp_path / "d"), tmp_path / "store")[0].partitions != plan.partitions


def test_a_shard_that_comes_before_others_changes_nothing_of_them(dataset: Path, tmp_path: Path) -> None:
    """A process that lives on reads each shard by its name, whatever its place among them is by now."""
    plan, settings = plan_of(str(dataset), tmp_path / "store", partition_cells=20)
    expected = [pa.concat_tables([table for _, table in stream_partition(part)]) for part in plan.partitions]
    shutil.move(dataset / "data" / "train-00000-of-00002.parquet", tmp_path / "elsewhere")
    write_random_dataset(tmp_path / "other")
    for number in (2, 3):
        source = tmp_path / "other" / "data" / "train-00000-of-00002.parquet"
        shutil.copyfile(source, dataset / "data" / f"train-{number:05}-of-00004.parquet")
    for part, table in zip(plan.partitions, expected, strict=True):
        if "train-00001" in part.shard_name:
            assert pa.concat_tables([table for _, table in stream_partition(part)]).equals(table)
        else:
            with pytest.raises(SourceError, match="train-00000"):
                land_cells(part, plan.vocabulary, settings)


def test_a_shard_that_changes_while_it_is_read_is_not_landed(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "d", [table_of([cell({3: 1.0})] * 2_500)], gene_table(10))
    reading = stream_partition(plan_of(str(dataset), tmp_path / "store")[0].partitions[0])
    next(reading)
    os.utime(dataset / "data" / "train-00000-of-00001.parquet", (1, 1))
    with pytest.raises(SourceError, match="changed during the run"):
        list(reading)
