"""Models that are made by hand, whole and harmed: what is not what it claims to be is refused in one line."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks.core.base.errors import ModelError, SettingsError, TahoeFlowError
from tasks.core.base.settings import ApplySettings
from tasks.core.dataset.plan import store_vocabulary
from tasks.core.numerics.block import decode_matrix
from tasks.core.numerics.normalize import NORMALIZATION
from tasks.core.references.cells import Vocabulary
from tasks.core.references.model import Clusters, Components
from tasks.core.results.drafts import DRAFTS
from tasks.core.results.saved_model import find_model, load_clusters, load_components
from tasks.core.storage.store import Store, store_of
from tests.small_dataset import gene_table

GENES = 8
LOADINGS = np.random.default_rng(0).normal(size=(GENES, 2)).astype(np.float32)
CENTRES = np.array([[0.1, 1 / 3], [2.0, -5.0], [1e-9, 7.0]])


def component_file(ids: Any = None, loadings: np.ndarray = LOADINGS) -> pa.Table:
    ids = ids or gene_table(GENES)["ensembl_id"].to_pylist()
    return pa.table({"ensembl_id": ids, "gene_symbol": ids, "pc1": loadings[:, 0], "pc2": loadings[:, 1]})


def cluster_file(names: list[int] | None = None, centres: np.ndarray = CENTRES) -> pa.Table:
    names_of = pa.array(names or [4, 0, 7], pa.int32())
    return pa.table({"cluster": names_of, "cells": [3] * 3, "pc1": centres[:, 0], "pc2": centres[:, 1]})


def write_model(folder: Path, record: dict[str, Any] | None = None, **files: pa.Table) -> Path:
    """Write a model as a fit's output has it, its record changed as given."""
    folder.mkdir()
    tables = {"components": component_file(), "clusters": cluster_file()} | files
    for name, table in tables.items():
        pq.write_table(table, folder / f"{name}.parquet")
    made = {
        "settings": {"pca_dim": 2, "clusters": 3, "something": "newer"},
        "dataset": {"name": "d", "revision": "r", "simulated": False},
        "normalization": NORMALIZATION.model_dump(),
        "outputs": [describe(folder / f"{name}.parquet") for name in tables],
    }
    (folder / "run.json").write_text(json.dumps(made | (record or {})))
    return folder


def describe(path: Path) -> dict[str, object]:
    data = path.read_bytes()
    return {"name": path.name, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def given_settings(model: Path) -> ApplySettings:
    return ApplySettings(model=str(model), store=str(model.parent / "store"), output=str(model.parent / "output"))


def load(model: Path, genes: pa.Table | None = None) -> tuple[Store, Components, Clusters]:
    """Load a model for a dataset of these genes."""
    asked = given_settings(model)
    store = store_of(asked)
    vocabulary: Vocabulary = store_vocabulary(store, genes or gene_table(GENES), "dataset")
    found = find_model(asked)
    components = load_components(store, found, vocabulary, asked).result
    return store, components, load_clusters(store, found, asked).result


def test_a_model_is_loaded_to_the_last_bit(tmp_path: Path) -> None:
    store, components, clusters = load(write_model(tmp_path / "model"))
    np.testing.assert_array_equal(decode_matrix(store.get(components.components)), LOADINGS)
    np.testing.assert_array_equal(decode_matrix(store.get(clusters.centres)), CENTRES)
    assert clusters.names == (4, 0, 7)


def test_genes_are_found_by_their_ids_whatever_their_order(tmp_path: Path) -> None:
    """And however Arrow holds texts: polars writes large ones."""
    order = [3, 1, 0, 2, 7, 6, 5, 4]
    genes = gene_table(GENES)
    large = genes.set_column(1, "ensembl_id", genes["ensembl_id"].cast(pa.large_string()))
    ids = component_file().set_column(0, "ensembl_id", large["ensembl_id"])
    store, components, _ = load(write_model(tmp_path / "model", components=ids), large.take(order))
    np.testing.assert_array_equal(decode_matrix(store.get(components.components)), LOADINGS[order])


IDS = gene_table(GENES)["ensembl_id"].to_pylist()
NAN = np.full_like(LOADINGS, np.nan)
NO_TEXT = pa.array([*(name.encode() for name in IDS[:-1]), b"\xff"], pa.binary()).view(pa.string())
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "another gene": (
        {"components": component_file([*IDS[:-1], "E\nX"])},
        r"genes the dataset lacks 1 ('E\nX'), of the dataset's 8 the model lacks 1 ('TESTG00007')",
    ),
    "a gene less": (
        {"components": component_file(IDS[:-1], LOADINGS[:-1])},
        "the model's 7 genes the dataset lacks none, of the dataset's 8 the model lacks 1 ('TESTG00007')",
    ),
    "a gene twice": ({"components": component_file([*IDS[:-1], IDS[0]])}, "the model lacks 1 ('TESTG00007')"),
    "no text": (
        {"components": component_file(NO_TEXT)},
        "components.parquet cannot be decoded: In chunk 0: Invalid: Invalid UTF8",
    ),
    "not finite": ({"components": component_file(loadings=NAN)}, "components.parquet has numbers that are not finite"),
    "of another type": (
        {"components": component_file(loadings=LOADINGS.astype(float))},
        "components.parquet has components that are not of type float",
    ),
    "a null": (
        {"clusters": cluster_file().set_column(2, "pc1", pa.array([1.0, None, 2.0]))},
        "clusters.parquet has nulls in 'pc1'",
    ),
    "a cluster twice": ({"clusters": cluster_file([1, 1, 0])}, "names 3 clusters, 2 of them different"),
    "another normalization": (
        {"record": {"normalization": NORMALIZATION.model_dump() | {"target_sum": 1e4}}},
        "with target_sum 10000.0, log1p True, version 1, and this code's normalization has target_sum 1000000.0",
    ),
    "a recipe that is no projection": (
        {"record": {"settings": {"pca_dim": 2, "clusters": 3, "recipe": "atlas"}}},
        "a truncated SVD of all genes can be applied: fit one with --recipe plain",
    ),
    "a normalization with more to it": (
        {"record": {"normalization": NORMALIZATION.model_dump() | {"scale\n": True}}},
        r"describes no model: 'normalization.scale\n': extra inputs",
    ),
    "more components than there are": (
        {"record": {"settings": {"pca_dim": 3}}},
        "has no column 'pc3'",
    ),
    "too many components": ({"record": {"settings": {"pca_dim": 10**9}}}, "'settings.pca_dim': input should be less"),
    "no model": ({"record": {"outputs": []}}, "lists no components.parquet: --model takes the output folder"),
    "not of a run": ({"record": {"dataset": 5}}, "describes no model: 'dataset': input should be"),
    "a false digest": (
        {"record": {"outputs": [{"name": "components.parquet", "size": 1, "sha256": "\n"}]}},
        "components.parquet is damaged: it has",
    ),
}


@pytest.mark.parametrize("problem", REFUSED)
def test_what_does_not_fit_or_is_not_sound_is_refused(tmp_path: Path, problem: str) -> None:
    changed, message = REFUSED[problem]
    model = write_model(tmp_path / "model", **changed)
    with pytest.raises(ModelError) as refused:
        load(model)
    assert message in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1


@pytest.mark.parametrize("name", ["run.json", "components.parquet", "clusters.parquet"])
def test_files_that_are_gone_or_harmed_are_named(tmp_path: Path, name: str) -> None:
    file = write_model(tmp_path / "model") / name
    whole = file.read_bytes()
    for harmed in (None, b"", whole[:-1], bytes([whole[0] ^ 1]) + whole[1:]):
        file.unlink(missing_ok=True)
        if harmed is not None:
            file.write_bytes(harmed)
        with pytest.raises(ModelError, match=name):
            load(tmp_path / "model")


def test_a_model_that_is_being_replaced_says_so(tmp_path: Path) -> None:
    model = write_model(tmp_path / "model")
    asked = given_settings(model)
    found = find_model(asked)
    write_model(tmp_path / "other", clusters=cluster_file([1, 2, 3]))
    for name in ("run.json", "clusters.parquet"):
        (tmp_path / "other" / name).replace(model / name)
    with pytest.raises(ModelError, match="was replaced while it was read: try again"):
        load_clusters(store_of(asked), found, asked)
    (model / DRAFTS).mkdir()
    (model / "run.json").rename(model / DRAFTS / "of-a-run.json")
    with pytest.raises(ModelError, match=r"run\.json is not there yet: a run puts its results there, or was killed"):
        find_model(asked)


def test_a_model_of_links_is_read_as_the_hub_s_cache_is_made_of_them(tmp_path: Path) -> None:
    model, linked = write_model(tmp_path / "model"), tmp_path / "linked"
    linked.mkdir()
    for path in model.iterdir():
        (linked / path.name).symlink_to(path)
    asked = given_settings(linked)
    assert load_clusters(store_of(asked), find_model(asked), asked)


def test_results_do_not_take_the_place_of_their_model(tmp_path: Path) -> None:
    model = write_model(tmp_path / "model")
    (tmp_path / "link").symlink_to(model)
    asked = ApplySettings(model=str(model), output=f"{tmp_path}/link/", store=str(tmp_path / "store"))
    with pytest.raises(SettingsError, match="is where the model is: choose another"):
        find_model(asked)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_bytes_changed(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Whoever changes a table can also change the digest that the record lists."""
    model = write_model(tmp_path_factory.mktemp("any") / "model")
    name = data.draw(st.sampled_from(["run.json", "components.parquet", "clusters.parquet"]))
    content = bytearray((model / name).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    (model / name).write_bytes(content[: data.draw(st.integers(len(content) // 2, len(content)))])
    if name != "run.json":
        record = json.loads((model / "run.json").read_bytes())
        record["outputs"] = [describe(model / output["name"]) for output in record["outputs"]]
        (model / "run.json").write_text(json.dumps(record))
    try:
        load(model)
    except TahoeFlowError as error:
        assert len(str(error).splitlines()) == 1  # noqa: PT017  (the change may be harmless as well)
