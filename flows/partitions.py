"""What every flow begins with: each partition streamed, counted and normalized, while others are at other stages."""

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Any, NamedTuple, TypeVar, cast

from prefect.exceptions import UnfinishedRun
from prefect.futures import PrefectFuture
from prefect.utilities.annotations import opaque

from tasks.core.base.errors import CorruptObjectError
from tasks.core.base.progress import Progress, report
from tasks.core.base.settings import RunSettings
from tasks.core.dataset.landing import check_skipped
from tasks.core.dataset.quality_control import passing
from tasks.core.references.batches import Batch, in_batches
from tasks.core.references.cells import GeneOrder, Plan
from tasks.core.references.model import Exported
from tasks.core.results.drafts import Draft
from tasks.core.results.embeddings import parts_of
from tasks.core.results.findings import LabelledCells, Matrix
from tasks.export import export_csv, export_part
from tasks.matrix import build_counts, order_genes
from tasks.normalization import normalize
from tasks.quality import check_quality
from tasks.stage import batched, with_retries
from tasks.streaming import stream_cells

HUB = "hugging-face-hub"
T = TypeVar("T")
Runs = Sequence[PrefectFuture[Batch[T]]]
Chain = dict[str, PrefectFuture[Any]]


class Normalization(NamedTuple):
    """The normalized cells, and the task runs that they come from.

    Attributes:
        sizes: how many partitions each batch has.
        cells: runs that gave the cells of the matrix and their counts, a batch each.
        normalized: runs that normalized these.
    """

    matrix: Matrix
    sizes: list[int]
    cells: Runs[Any]
    normalized: Runs[Any]


def normalized_cells(
    planned: PrefectFuture[Plan], settings: RunSettings, start: GeneOrder | None = None
) -> Normalization:
    """Stream the cells planned for, build sparse counts and normalize them, the genes in the order given if any."""
    plan = planned.result()
    stream = with_retries(batched(stream_cells), settings.retries).with_options(tags=_of_source(plan))
    build, check, scale = batched(build_counts), batched(check_quality), batched(normalize)
    recipe = settings.recipe_in_full
    # Not the plan's own: an arrow from the plan to every task run would tell nobody anything.
    genes = plan.vocabulary.model_copy()
    order: Any = start

    # Batch by batch through all of it, so that the cores need not wait for the network, nor the network for them.
    chains: list[Chain] = []
    batches = in_batches(plan.partitions, plan.cells, settings.partition_cells)
    for batch in batches:
        landed: Any = stream.submit(batch, genes, settings, wait_for=[planned])
        chains.append({stream.name: landed})
        if order is None:
            order = chains[-1][order_genes.name] = order_genes.submit(landed, genes, settings)
        counted: Any = build.submit(landed, order, genes, settings)
        chains[-1][build.name] = counted
        if recipe.checks_cells:
            counted = chains[-1][check.name] = check.submit(counted, genes, settings)
        chains[-1][scale.name] = scale.submit(counted, settings)

    sizes = [len(batch) for batch in batches]
    found = results(chains, sizes)
    skipped = check_skipped(plan, found[stream.name], settings)
    all_counted, all_checked = found[build.name], found.get(check.name, ())
    left = passing(all_checked, recipe) if recipe.checks_cells else all_counted
    matrix = Matrix(
        plan=plan,
        counted=all_counted,
        checked=all_checked,
        cells=Batch(part.cells for part in left),
        counts=Batch(part.counts for part in left),
        order=start or order.result(),
        normalized=found[scale.name],
        skipped=skipped,
    )
    last = check if recipe.checks_cells else build
    return Normalization(matrix, sizes, [chain[last.name] for chain in chains], [chain[scale.name] for chain in chains])


def exported_cells(
    cells: LabelledCells, draft: Draft, settings: RunSettings, wait_for: Sequence[Any]
) -> list[PrefectFuture[Exported]]:
    """Write the table of cells, a part a task, and one CSV file of all unless that is too long."""
    rows = [part.cells for part in cells.cells]
    has_one_csv = sum(rows) <= settings.csv_rows
    exported = [
        export_part.submit(
            *(untraced(cells.part(of)), number, not has_one_csv, draft, settings), wait_for=wait_for, return_state=False
        )
        for number, of in enumerate(parts_of(rows))
    ]
    if has_one_csv:
        exported.append(export_csv.submit(untraced(cells), draft, settings, wait_for=wait_for, return_state=False))
    return exported


def untraced(value: T) -> T:
    """Give a task a value that Prefect is not to look through for what it hangs on: `wait_for` says so.

    Of a large run, the references of all partitions are in it.
    """
    return cast("T", opaque(value))


def _of_source(plan: Plan) -> list[str]:
    # By the tag a server can limit how many stream from the Hub at once, whatever they are runs of.
    return [HUB] if any(part.revision for part in plan.partitions[:1]) else []


def results(chains: Iterable[Chain], sizes: Sequence[int]) -> dict[str, Batch[Any]]:
    """Wait for the runs of tasks, and give by stage what they made of all partitions; tell how far they are.

    What fails is told when its batch's turn has come, however much is yet to be done for later ones.

    Args:
        chains: of each batch, its runs by stage, in the order in which they wait for each other.
        sizes: how many partitions each batch has.

    Raises:
        CorruptObjectError: objects of the store are damaged; names those that all of the runs met.
    """
    made: dict[str, list[Any]] = {}
    found: Counter[str] = Counter()
    damage: list[str] = []
    for done, chain in zip(accumulate(sizes), chains, strict=True):
        try:
            for stage, run in chain.items():
                result = run.result()
                if isinstance(result, Batch):
                    made.setdefault(stage, []).extend(result)
                    found[stage] += result.found
                    note = f"{found[stage]:,} found in the store" if found[stage] else ""
                    report(Progress(stage, "partition", done, sum(sizes), note))
        except CorruptObjectError as error:
            damage.append(str(error))
        except UnfinishedRun:
            # It waits for one of a batch before, which the order of the genes is made of.
            if not damage:
                raise
    if damage:
        raise CorruptObjectError("; ".join(damage))
    return {stage: Batch(items, found[stage]) for stage, items in made.items()}
