"""Runs that build on the run before: only new work, the same names, and what changed."""

from pathlib import Path

import polars as pl
import pytest

from flows.command_line import main
from tests.flows.conftest import Run
from tests.small_dataset import gene_table, random_cells, table_of, write_dataset

SIZES = {"samples": "all", "pca_dim": 4, "clusters": 3, "series": "weekly"}
GENES = 60


def grow(folder: Path, shards: int, kinds: int = 3) -> Path:
    """A dataset whose first so many shards are there; a shard is the same however many there are."""
    for index in range(len(list((folder / "data").glob("*"))), shards):
        cells = random_cells(60, GENES, seed=7, kinds=kinds, draw=index)
        write_dataset(folder, [table_of(cells)], gene_table(GENES), of=99, first=index)
    return folder


def clusters_of(output: Path) -> pl.Series:
    return pl.read_parquet(output / "embeddings")["cluster"]


def test_three_runs_on_a_growing_dataset(run: Run, tmp_path: Path) -> None:
    runs = [
        run(dataset=grow(tmp_path / "dataset", shards), output=tmp_path / str(shards), **SIZES) for shards in (2, 3, 4)
    ]
    assert [ran.code for ran in runs] == [0, 0, 0]
    made = [ran.steps("made") for ran in runs]
    for stage in ("streaming", "matrix", "normalization"):
        assert [steps[stage] for steps in made] == [2, 1, 1]
    notes = [ran.record["series"]["note"] for ran in runs]
    assert notes[0] == "the first run of series 'weekly'"
    assert notes[2] == "run 3 of series 'weekly', begins from run 2"
    first, last = clusters_of(runs[0].output), clusters_of(runs[2].output)
    assert first.to_list() == last[: len(first)].to_list()
    drift = runs[2].record["series"]["drift"]
    assert drift["cells"] == [240, 180]
    assert (drift["shared_cells"], drift["shards_added"], drift["shards_gone"]) == (180, 1, 0)
    assert drift["agreement"] == pytest.approx(1.0)
    assert drift["overlap"] > 0.9
    assert drift["new"] == drift["vanished"] == drift["exceeded"] == []
    history = pl.read_parquet(runs[2].output / "history.parquet")
    assert history["number"].to_list() == [1, 2, 3]
    assert history["cells"].to_list() == [120, 180, 240]
    assert history["agreement"].null_count() == 1


def test_more_clusters_leave_the_others_their_names(run: Run, tmp_path: Path) -> None:
    dataset = grow(tmp_path / "dataset", 2)
    first = run(dataset=dataset, output=tmp_path / "first", **SIZES)
    more = run(dataset=dataset, output=tmp_path / "more", **SIZES | {"clusters": 5})
    names = more.record["clustering"]["names"]
    drift = more.record["series"]["drift"]
    assert names == sorted(names)
    assert len(names) == 5
    assert set(drift["new"]) == set(names) - {0, 1, 2}
    assert set(clusters_of(more.output)) == set(names)
    fewer = run(dataset=dataset, output=tmp_path / "fewer", **SIZES)
    assert set(fewer.record["clustering"]["names"]) == {0, 1, 2}
    assert clusters_of(fewer.output).to_list() == clusters_of(first.output).to_list()


def test_nothing_new_gives_the_same_files_and_says_so(run: Run, tmp_path: Path) -> None:
    run(dataset=grow(tmp_path / "dataset", 2), **SIZES)
    second = run(dataset=grow(tmp_path / "dataset", 3), output=tmp_path / "second", **SIZES)
    third = run(dataset=tmp_path / "dataset", output=tmp_path / "third", **SIZES)
    assert set(third.steps("made")) == {"plan", "series", "export", "drift", "report"}
    assert "nothing has changed since run 2 of series 'weekly'" in third.out
    for name in ("embeddings.csv", "pca_variance.csv", "components.csv", "history.parquet"):
        assert (third.output / name).read_bytes() == (second.output / name).read_bytes()
    assert third.record["series"]["drift"] == second.record["series"]["drift"]


def test_newer_code_is_a_run_of_its_own(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = grow(tmp_path / "dataset", 2)
    run(dataset=dataset, **SIZES)
    monkeypatch.setattr("tasks.core.model.fit_kmeans.VERSION", 1_000)
    again = run(dataset=dataset, **SIZES)
    assert again.steps("made").keys() >= {"clustering"}
    assert again.record["series"]["number"] == 2


def test_a_changed_shard_is_the_only_one_made_again(run: Run, tmp_path: Path) -> None:
    dataset = grow(tmp_path / "dataset", 3)
    run(dataset=dataset, **SIZES)
    (dataset / "data" / "train-00000-of-00099.parquet").unlink()
    write_dataset(dataset, [table_of(random_cells(50, GENES, seed=7, kinds=3, draw=9))], gene_table(GENES), of=99)
    again = run(dataset=dataset, output=tmp_path / "again", **SIZES)
    assert {stage: again.steps("made")[stage] for stage in ("streaming", "matrix", "normalization")} == {
        "streaming": 1,
        "matrix": 1,
        "normalization": 1,
    }
    drift = again.record["series"]["drift"]
    assert (drift["shards_added"], drift["shards_gone"], drift["shared_cells"]) == (1, 1, 120)


def test_other_cells_are_told_as_drift(run: Run, tmp_path: Path) -> None:
    run(dataset=grow(tmp_path / "dataset", 2), **SIZES)
    strangers = random_cells(600, GENES, seed=1, kinds=5)
    write_dataset(tmp_path / "dataset", [table_of(strangers)], gene_table(GENES), of=99, first=2)
    ran = run(dataset=tmp_path / "dataset", output=tmp_path / "again", drift_overlap=0.99, **SIZES)
    assert ran.code == 0
    assert "below --drift_overlap 0.99" in ran.out
    (sentence,) = [line for line in ran.record["series"]["drift"]["exceeded"] if "overlap" in line]
    assert sentence.startswith("components span 0.")


def test_what_a_series_needs_is_never_pruned_nor_left_out(run: Run, tmp_path: Path) -> None:
    dataset = grow(tmp_path / "dataset", 2)
    run(dataset=dataset, keep_intermediates="none", **SIZES)
    runs = tmp_path / "store" / "series" / "weekly" / "runs"
    (entry,) = runs.iterdir()
    for stray in ("README", "x.json.bak", f"{entry.name}.bak", "z.json"):
        # The last as of a run whose entry is torn.
        (runs / stray).write_bytes(entry.read_bytes()[:-9])
    (runs.parent / "README").write_bytes(b"not ours")
    assert main(["store", "prune", "--days", "0", "--store", str(tmp_path / "store")]) == 0
    grow(dataset, 3)
    ran = run(dataset=dataset, **SIZES)
    assert ran.record["series"]["note"] == "run 2 of series 'weekly', begins from run 1"


@pytest.mark.parametrize("distinct", [1, 3])
def test_a_series_of_fewer_distinct_cells_than_clusters_goes_on(run: Run, tmp_path: Path, distinct: int) -> None:
    kinds, output = random_cells(distinct, GENES, kinds=distinct), tmp_path / "again"
    for index in range(2):
        cells = [kinds[at % distinct] for at in range(30)]
        dataset = write_dataset(tmp_path / "dataset", [table_of(cells)], gene_table(GENES), of=99, first=index)
        ran = run(dataset=dataset, output=output, **SIZES | {"clusters": 5})
        assert ran.code == 0, ran.err
    sizes = ran.record["clustering"]["sizes"]
    assert sorted(size for size in sizes if size) == [60 // distinct] * distinct
    names = ran.record["clustering"]["names"]
    assert names == list(range(5))
    counted = dict(clusters_of(output).value_counts().iter_rows())
    assert counted == {name: size for name, size in zip(names, sizes, strict=True) if size}
    drift = ran.record["series"]["drift"]
    assert drift["agreement"] == pytest.approx(1.0)
    assert max(drift["shifts"].values()) < 1e-3
    assert drift["new"] == drift["vanished"] == drift["exceeded"] == []


def test_a_model_that_is_lost_is_told_and_done_without(run: Run, tmp_path: Path) -> None:
    dataset = grow(tmp_path / "dataset", 2)
    run(dataset=dataset, **SIZES)
    for path in (tmp_path / "store" / "svd").rglob("components.arrow"):
        path.write_bytes(b"")
    grow(dataset, 3)
    ran = run(dataset=dataset, **SIZES)
    assert ran.code == 0
    assert "what it was to begin from is gone, so it begins anew" in ran.out


@pytest.mark.parametrize("name", ["../x", "a/b", "", "a b"])
def test_names_that_are_no_names_are_refused(run: Run, dataset: Path, name: str) -> None:
    assert run(dataset=dataset, samples=60, pca_dim=5, clusters=2, series=name).code == 2
