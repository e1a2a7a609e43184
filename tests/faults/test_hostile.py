"""Datasets that nobody should have made: refused in one line or read, never a traceback, never a file elsewhere."""

import tempfile
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from flows.command_line import main
from tasks.core.base.errors import SourceError, TahoeFlowError
from tasks.core.base.refusals import explain
from tasks.core.base.settings import Settings
from tasks.core.dataset.landing import check_skipped, land_cells
from tasks.core.dataset.plan import make_plan
from tests.faults.tally import fault
from tests.small_dataset import cell, gene_table, random_cells, table_of, write_dataset

ROWS = 12
numbers = st.one_of(
    st.none(), st.integers(-(2**63), 2**63 - 1), st.floats(width=32), st.integers(0, 50), st.sampled_from([1, -2])
)
columns = st.one_of(
    st.lists(st.lists(st.integers(0, 60), max_size=6), min_size=ROWS, max_size=ROWS),
    st.lists(st.lists(st.floats(width=32), max_size=6), min_size=ROWS, max_size=ROWS),
    st.lists(st.one_of(st.none(), st.lists(numbers.filter(lambda x: x is None or isinstance(x, int)), max_size=4)),
             min_size=ROWS, max_size=ROWS),
    st.lists(st.text(max_size=5), min_size=ROWS, max_size=ROWS),
    st.lists(st.lists(st.lists(st.integers(0, 5), max_size=2), max_size=2), min_size=ROWS, max_size=ROWS),
    st.just([None] * ROWS),
)  # fmt: skip
names = st.one_of(
    st.sampled_from(["../x", "/etc/passwd", "=cmd", "a,b", 'a"b', "a\nb", "é", "cell_line_id"]),
    st.text(min_size=1, max_size=8),
)
policies = st.sampled_from(["fail", "skip"])


def attempt(dataset: Path, folder: Path, policy: str) -> None:
    """Read a dataset as a run would; errors that are ours are as good as a result."""
    given_settings = Settings.model_validate(
        {
            "dataset": str(dataset),
            "samples": "all",
            "pca_dim": 2,
            "clusters": 2,
            "store": str(folder / "store"),
            "on_bad_data": policy,
            "most_skipped": 1.0,
            "retries": 0,
        }
    )
    with fault("hostile dataset"):
        try:
            plan = make_plan(given_settings)
            landed = [land_cells(part, plan.vocabulary, given_settings).result for part in plan.partitions]
            skipped = check_skipped(plan, landed, given_settings)
        except TahoeFlowError as error:
            lines = str(error).splitlines()
            assert len(lines) == 1, lines
        else:
            assert sum(part.cells for part in landed) + sum(bad.rows for bad in skipped) >= ROWS


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(columns, columns, names, st.sampled_from(["x", "y"]) | names, policies)
def test_columns_of_any_kind(genes: list[object], values: list[object], name: str, text: str, policy: str) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        made = {"genes": pa.array(genes), "expressions": pa.array(values)}
        if name not in made:
            made[name] = pa.array([text] * ROWS)
        attempt(write_dataset(folder / "dataset", [pa.table(made)], gene_table(50)), folder, policy)
        assert {path.name for path in folder.iterdir()} <= {"dataset", "store"}


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(st.data(), policies)
def test_shards_with_any_bytes_changed(data: st.DataObject, policy: str) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        tables = [table_of(random_cells(ROWS, 50))] * 2
        dataset = write_dataset(folder / "dataset", tables, gene_table(50))
        shard = dataset / "data" / "train-00001-of-00002.parquet"
        content = bytearray(shard.read_bytes())
        for _ in range(data.draw(st.integers(1, 4))):
            at = data.draw(st.integers(0, len(content) - 1))
            content[at] = data.draw(st.integers(0, 255))
        shard.write_bytes(content[: data.draw(st.integers(len(content) // 2, len(content)))])
        attempt(dataset, folder, policy)


@given(st.dictionaries(st.sampled_from(sorted(Settings.model_fields)), numbers | st.text(max_size=6), max_size=5))
def test_settings_of_any_kind(values: dict[str, object]) -> None:
    with fault("hostile settings"):
        try:
            Settings.model_validate(values)
        except ValidationError as error:
            assert explain(error)  # noqa: PT017  (values may be good as well)


def test_a_link_out_of_the_folder_is_read_and_never_written(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "dataset", [table_of(random_cells(ROWS, 50))], gene_table(50))
    shard = dataset / "data" / "train-00000-of-00001.parquet"
    elsewhere = tmp_path / "elsewhere.parquet"
    shard.rename(elsewhere)
    shard.symlink_to(elsewhere)
    before = elsewhere.read_bytes()
    attempt(dataset, tmp_path, "fail")
    assert elsewhere.read_bytes() == before


@pytest.mark.parametrize("tokens", [[*range(3, 52), 2**62], list(range(-20, 30))])
def test_a_vocabulary_with_hostile_tokens_is_refused(tmp_path: Path, tokens: list[int]) -> None:
    genes = pa.table(gene_table(50).to_pydict() | {"token_id": tokens})
    dataset = write_dataset(tmp_path / "dataset", [table_of(random_cells(ROWS, 50))], genes)
    with fault("hostile vocabulary"), pytest.raises(SourceError, match="'token_id' that is not from 0 to 16,777,216"):
        make_plan(Settings(dataset=str(dataset), store=str(tmp_path / "store"), pca_dim=2, clusters=2))


def test_formulas_in_metadata_are_made_harmless_in_the_csv(tmp_path: Path, prefect_server: None) -> None:
    texts = ["=cmd|' /C calc'!A0", "+1+1", "-2", "@SUM(A1)", "-", "plain"]
    cells = [cell({3: 1.0, 4: float(at + 1)}, drug=texts[at % 6]) for at in range(60)]
    dataset = write_dataset(tmp_path / "dataset", [table_of(cells)], gene_table(40))
    given = {"dataset": dataset, "store": tmp_path / "store", "output": tmp_path, "pca_dim": 2, "clusters": 2}
    with fault("hostile texts"):
        assert main([word for name, value in given.items() for word in (f"--{name}", str(value))]) == 0
        in_csv = pl.read_csv(tmp_path / "embeddings.csv", infer_schema=False)["drug"].to_list()[:6]
        assert in_csv == ["'=cmd|' /C calc'!A0", "'+1+1", "-2", "'@SUM(A1)", "'-", "plain"]
        assert pl.read_parquet(tmp_path / "embeddings" / "part-00000.parquet")["drug"].to_list()[:6] == texts
