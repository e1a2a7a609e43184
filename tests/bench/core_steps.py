"""The stages of a run as plain calls into the core, without Prefect."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tasks.core.base.settings import Settings
from tasks.core.dataset.landing import land_cells
from tasks.core.dataset.partition_steps import build_counts, embed, normalize, order_genes
from tasks.core.dataset.plan import make_plan
from tasks.core.model import fit_kmeans, fit_svd
from tasks.core.numerics.fold import Blocks
from tasks.core.references.cells import Cells, Counts, GeneOrder, Normalized, Plan
from tasks.core.results import results
from tasks.core.results.drafts import Draft, held
from tasks.core.results.embeddings import write_csv, write_part
from tasks.core.results.findings import Clustered, Embedded, Fit, Insights, Matrix, Prepared
from tasks.core.results.tables import cell_tables
from tasks.core.storage.store import Outcome, Store


@dataclass(frozen=True)
class Made:
    """All that comes before the SVD."""

    plan: Plan
    cells: list[Cells]
    counts: list[Counts]
    order: GeneOrder
    normalized: list[Normalized]


def prepare(settings: Settings) -> Made:
    """Everything up to the normalized blocks, found in the store or made."""
    store = Store.at(settings.store)
    plan = make_plan(settings)
    genes = plan.vocabulary
    cells = _each(settings, lambda part: land_cells(part, genes, settings), plan.partitions)
    order = order_genes(store, cells[0], genes).result
    counts = _each(settings, lambda part: build_counts(store, part, order, genes), cells)
    return Made(plan, cells, counts, order, _each(settings, lambda part: normalize(store, part), counts))


def run(settings: Settings) -> None:
    """The whole job, from the dataset to the files of the results."""
    store = Store.at(settings.store)
    made = prepare(settings)
    model = fit_svd.fit_svd(store, made.normalized, made.order, settings, None).result
    embeddings = _each(settings, lambda part: embed(store, part, made.order, model), made.normalized)
    clustering = fit_kmeans.fit_kmeans(store, embeddings, model, settings.cluster_numbers[0], settings, None).result
    fit = Fit(
        matrix=Matrix(made.plan, [], [], made.cells, made.counts, made.order, made.normalized, ()),
        prepared=Prepared(made.normalized, made.order, None),
        model=model,
        embedded=Embedded(embeddings, None),
        clustered=Clustered(clustering, [], None),
        insights=Insights(None, None, None),
    )
    output, draft = Store.at(settings.output), Draft.of(None)
    with held(output):
        draft.write(output, lambda folder: results.export(store, folder, fit, settings))
        tables = cell_tables(store, fit.labelled)
        draft.write(output, lambda folder: write_part(tables, folder, 0, has_csv=False))
        draft.write(output, lambda folder: write_csv(cell_tables(store, fit.labelled), folder))


def _each(settings: Settings, step: Callable[[Any], Outcome[Any]], parts: Sequence[Any]) -> list[Any]:
    names = [str(at) for at in range(len(parts))]
    blocks: Blocks[Any] = Blocks(parts, names, [1] * len(parts), lambda part: part, settings.threads)
    return [outcome.result for outcome in blocks.map(step)]
