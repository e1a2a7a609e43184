from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tasks.core.base.settings import Settings
from tasks.core.dataset.landing import land_cells
from tasks.core.dataset.partition_steps import build_counts, normalize, order_genes
from tasks.core.dataset.plan import make_plan
from tasks.core.model import fit_svd as module
from tasks.core.model.fit_svd import fit_svd
from tasks.core.model.krylov_passes import KrylovPasses
from tasks.core.numerics.block import decode_matrix
from tasks.core.numerics.krylov import BlockKrylov
from tasks.core.references.cells import GeneOrder, Normalized
from tasks.core.references.model import Model
from tasks.core.storage.store import Store
from tests.small_dataset import write_random_dataset

Fit = Callable[[], Model]


class Killed(BaseException):
    """Ends a fit as a kill would: nothing after it runs."""


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    # So little room that the basis is restarted on the way.
    monkeypatch.setattr("tasks.core.numerics.krylov._LEAST_ROOM", 0)
    dataset = write_random_dataset(tmp_path / "dataset", cells=400, genes=300)
    sizes = {"samples": "all", "pca_dim": 20, "block_cells": 40, "svd_tolerance": 1e-6}
    return Settings.model_validate(sizes | {"dataset": str(dataset), "store": str(tmp_path / "store")})


@pytest.fixture
def prepared(settings: Settings) -> tuple[list[Normalized], GeneOrder]:
    store = Store(settings.store)
    plan = make_plan(settings)
    cells = [land_cells(part, plan.vocabulary, settings).result for part in plan.partitions]
    order = order_genes(store, cells[0], plan.vocabulary).result
    counts = [build_counts(store, part, order, plan.vocabulary).result for part in cells]
    return [normalize(store, part).result for part in counts], order


def fit_in(folder: Path, settings: Settings, prepared: tuple[list[Normalized], GeneOrder]) -> Model:
    return fit_svd(Store(str(folder)), *prepared, settings, None).result


def components(store: Path, model: Model) -> np.ndarray:
    return decode_matrix(Store(str(store)).get(model.components))


@pytest.mark.parametrize("workers", [1, 2, 7])
def test_workers_do_not_matter_to_the_last_bit(
    settings: Settings, prepared: tuple[list[Normalized], GeneOrder], workers: int
) -> None:
    store = Path(settings.store)
    with_one = fit_in(store, settings.model_copy(update={"workers": 1}), prepared)
    (store / with_one.components.path).parent.joinpath("manifest.json").unlink()
    with_many = fit_in(store, settings.model_copy(update={"workers": workers}), prepared)
    assert with_one == with_many


@pytest.mark.parametrize("killed_in", [1, 2, 6, 7, 8])
@pytest.mark.parametrize("saved", [True, False])
def test_a_fit_that_was_killed_goes_on_and_gives_the_same_bits(
    settings: Settings,
    prepared: tuple[list[Normalized], GeneOrder],
    monkeypatch: pytest.MonkeyPatch,
    killed_in: int,
    *,
    saved: bool,
) -> None:
    store = Path(settings.store)
    whole = fit_in(store, settings, prepared)
    assert whole.passes > 8, "the case must have passes to be killed in, before a restart and after"
    (store / whole.components.path).parent.joinpath("manifest.json").unlink()
    made: list[int] = []
    save = KrylovPasses.save

    def save_and_die(self: KrylovPasses, krylov: BlockKrylov) -> None:
        made.append(krylov.passes)
        if krylov.passes == killed_in and not saved:
            raise Killed
        save(self, krylov)
        if krylov.passes == killed_in:
            raise Killed

    monkeypatch.setattr(KrylovPasses, "save", save_and_die)
    with pytest.raises(Killed):
        fit_in(store, settings, prepared)
    made.clear()

    def save_and_count(self: KrylovPasses, krylov: BlockKrylov) -> None:
        made.append(krylov.passes)
        save(self, krylov)

    monkeypatch.setattr(KrylovPasses, "save", save_and_count)
    resumed = fit_in(store, settings, prepared)
    assert made == list(range(killed_in + saved, whole.passes + 1))
    assert resumed == whole


def test_a_fit_that_was_killed_after_its_last_pass_makes_no_other(
    settings: Settings, prepared: tuple[list[Normalized], GeneOrder], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Path(settings.store)
    whole = fit_in(store, settings, prepared)
    (store / whole.components.path).parent.joinpath("manifest.json").unlink()

    def die(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as killing:
        killing.setattr(module, "_model", die)
        with pytest.raises(Killed):
            fit_in(store, settings, prepared)
    monkeypatch.setattr(KrylovPasses, "save", die)
    assert fit_in(store, settings, prepared) == whole


def test_the_passes_are_removed_once_the_fit_is_there(
    settings: Settings, prepared: tuple[list[Normalized], GeneOrder]
) -> None:
    fit_in(Path(settings.store), settings, prepared)
    assert not list(Path(settings.store, "svd_pass").glob("*"))


@pytest.mark.parametrize("max_passes", [2, 3])
@pytest.mark.parametrize("killed_in", [None, 1])
def test_passes_are_counted_on_where_a_fit_was_killed(
    settings: Settings,
    prepared: tuple[list[Normalized], GeneOrder],
    monkeypatch: pytest.MonkeyPatch,
    max_passes: int,
    killed_in: int | None,
) -> None:
    store, made, save = Path(settings.store), [], KrylovPasses.save
    # Four panels of the width that does for as many passes as it takes.
    wide = settings.model_copy(update={"svd_max_passes": max_passes, "pca_dim": 150})

    def save_and_count(self: KrylovPasses, krylov: BlockKrylov) -> None:
        save(self, krylov)
        made.append(krylov.passes)
        if made == [killed_in]:
            raise Killed

    monkeypatch.setattr(KrylovPasses, "save", save_and_count)
    if killed_in:
        with pytest.raises(Killed):
            fit_in(store, wide, prepared)
    model = fit_in(store, wide, prepared)
    assert made == list(range(1, max_passes + 1))
    assert (model.passes, model.rank) == (max_passes, 150)
    assert any("did not settle to the svd_tolerance" in told for told in model.shortcomings)


def test_a_tolerance_that_cannot_be_met_is_flagged(
    settings: Settings, prepared: tuple[list[Normalized], GeneOrder]
) -> None:
    hasty = settings.model_copy(update={"svd_max_passes": 4})
    model = fit_in(Path(settings.store), hasty, prepared)
    assert model.passes == 4
    assert model.settled == tuple(residual <= hasty.svd_tolerance for residual in model.residuals)
    assert not all(model.settled)
