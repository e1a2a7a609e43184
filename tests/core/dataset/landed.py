"""Partitions in a store, as the stages before leave them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.core.base.settings import Settings
from tasks.core.dataset.landing import land_cells
from tasks.core.dataset.partition_steps import build_counts, order_genes
from tasks.core.dataset.plan import make_plan
from tasks.core.references.cells import Counted, Plan
from tasks.core.storage.store import Store, store_of


@dataclass(frozen=True)
class Landed:
    settings: Settings
    store: Store
    plan: Plan
    counted: list[Counted]


def land(dataset: Path, store: Path, **settings: Any) -> Landed:
    """Plan, stream and count the cells of a dataset."""
    asked = Settings(dataset=str(dataset), store=str(store), **({"samples": "all"} | settings))
    plan, at = make_plan(asked), store_of(asked)
    cells = [land_cells(part, plan.vocabulary, asked).result for part in plan.partitions]
    order = order_genes(at, cells[0], plan.vocabulary).result
    counted = [Counted(cells=of, counts=build_counts(at, of, order, plan.vocabulary).result) for of in cells]
    return Landed(asked, at, plan, counted)
