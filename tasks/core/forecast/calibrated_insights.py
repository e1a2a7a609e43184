"""How fast this machine is at what a recipe asks for beside the plain method."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from tasks.core.dataset.quality_control import check_quality
from tasks.core.forecast.timing import Sample, Timer, anew
from tasks.core.model.choose_genes import Partitions, choose_genes
from tasks.core.model.find_communities import find_communities
from tasks.core.model.find_markers import find_markers
from tasks.core.model.judge import QUERIES, Judged, judge
from tasks.core.model.label import embedded_blocks, nearest_of, put_labels
from tasks.core.model.map_cells import map_cells
from tasks.core.model.prepare_genes import prepare_genes
from tasks.core.numerics.block import Float32Array, IntArray, NumberArray, encode_matrix
from tasks.core.numerics.fold import Blocks
from tasks.core.numerics.harmony import Harmony, harmonize
from tasks.core.numerics.leiden import MOST_NODES
from tasks.core.numerics.lisi import mixing
from tasks.core.numerics.sample import draw
from tasks.core.references.cells import Counted
from tasks.core.references.model import Clusters, Embedding, Labels
from tasks.core.storage.store import StageKey

# As many batches as Tahoe has plates.
_BATCHES = 14
# Of the correction, that are timed.
_ROUNDS = 3


@dataclass(frozen=True)
class Prepared:
    """What is left where genes are chosen.

    Attributes:
        prepared: share of the nonzeros.
        stored: bytes of each.
    """

    prepared: float
    stored: dict[str, float]


def time_insights(sample: Sample, embedding: Embedding, timer: Timer) -> Prepared:
    """Time what the recipe asks for; give what is left of the matrix where genes are chosen."""
    recipe, store = sample.settings.recipe_in_full, sample.store
    if recipe.checks_cells:
        counted = Counted(cells=sample.cells, counts=sample.counts)
        check = anew(store, "quality", lambda: check_quality(store, counted, sample.plan.vocabulary, recipe))
        timer.once("quality", sample.counts.nonzeros, check)
    if recipe.correction != "none":
        _time_correction(sample, embedding, timer)
    if recipe.leiden:
        pairs = embedding.cells * min(embedding.cells, MOST_NODES)
        timer.once("leiden", pairs, lambda: find_communities(store, [embedding], sample.settings))
    if recipe.layout != "none":
        timer.once("map", 1.0, lambda: map_cells(store, [embedding], sample.settings))
    _time_clusters(sample, embedding, timer)
    return _time_genes(sample, timer) if recipe.prepares_genes else Prepared(1.0, {})


def _time_genes(sample: Sample, timer: Timer) -> Prepared:
    # Of one plate there are no batches to choose within.
    settings = sample.settings.model_copy(update={"batch": "none", "correction": "none"})
    store, nonzeros = sample.store, sample.normalized.nonzeros
    parts = Partitions([sample.cells], [sample.counts], [sample.normalized], sample.order)
    chosen = timer.once("genes", nonzeros, lambda: choose_genes(store, parts, settings).result)
    make = anew(
        store,
        "preparation",
        lambda: prepare_genes(store, sample.normalized, sample.order, chosen, settings.recipe_in_full).result,
    )
    made = timer.run("preparation", nonzeros, make)
    size = sum(ref.size for ref in made.blocks)
    return Prepared(made.nonzeros / nonzeros, {"preparation": size / made.nonzeros})


def _time_correction(sample: Sample, embedding: Embedding, timer: Timer) -> None:
    blocks = embedded_blocks(sample.store, [embedding], 1)
    names = [str(batch) for batch in range(_BATCHES)]
    for step, rounds in (("harmony", 1), ("correction", 1 + _ROUNDS)):
        harmony = Harmony(max_rounds=rounds, tolerance=0.0)
        timer.once(step, 1.0, lambda: harmonize(blocks, _batches(embedding), names, _InMemory(), harmony))  # noqa: B023
    # What more rounds take more; the rest is the start, on a sample.
    a_round = max(timer.seconds["correction"] - timer.seconds["harmony"], 0.0) / _ROUNDS
    timer.seconds["harmony"] = max(timer.seconds["harmony"] - a_round, 0.0)
    timer.seconds["correction"] = a_round / (embedding.cells * sample.settings.pca_dim)


def _time_clusters(sample: Sample, embedding: Embedding, timer: Timer) -> None:
    recipe, settings, store = sample.settings.recipe_in_full, sample.settings, sample.store
    labels = _labelled(sample, embedding)
    if recipe.markers:
        arguments = ([sample.normalized], sample.order, sample.plan.vocabulary, labels, settings)
        timer.once("markers", sample.normalized.nonzeros, lambda: find_markers(store, *arguments))
    if recipe.compared or recipe.batch_column or len(settings.cluster_numbers) > 1:
        of = Judged([sample.cells], [embedding], [embedding], {"cluster": labels})
        without = settings.model_copy(update={"batch": "none", "correction": "none"})
        timer.once("scores", 1.0, lambda: judge(store, of, without))
    if recipe.batch_column:
        blocks = embedded_blocks(store, [embedding], 1)
        queries = draw(blocks.rows, QUERIES, np.random.default_rng(0))
        step = partial(mixing, blocks, _batches(embedding), queries, _BATCHES)
        timer.once("mixing", embedding.cells * settings.pca_dim, step)


def _batches(embedding: Embedding) -> Blocks[IntArray]:
    return Blocks.cut(np.arange(embedding.cells) % _BATCHES, embedding.cells, 1)


def _labelled(sample: Sample, embedding: Embedding) -> Labels:
    blocks, number = embedded_blocks(sample.store, [embedding], 1), sample.settings.cluster_numbers[0]
    centres = blocks.read(blocks.sources[0])[:number].astype(np.float64)
    ref = sample.store.keep("clusters", "centres.arrow", encode_matrix(centres), number)
    clusters = Clusters(key="calibration", centres=ref, names=tuple(range(number)))
    key = StageKey(stage="labels", version=0, inputs={})
    labels, sizes = put_labels(sample.store, key, blocks, nearest_of(centres), number)
    return Labels(**clusters.model_dump(exclude={"centres"}), centres=ref, labels=labels, sizes=sizes, inertia=0.0)


class _InMemory:
    """Keeps the blocks of a round."""

    def writer(self, number: int) -> Callable[[int, Float32Array], Float32Array]:  # noqa: ARG002  (Harmony's)
        return lambda _index, z_nk: z_nk

    def blocks(self, kept: Sequence[Float32Array], workers: int) -> Blocks[NumberArray]:
        rows = [len(block) for block in kept]
        return Blocks(range(len(kept)), ["a block"] * len(kept), rows, kept.__getitem__, workers)
