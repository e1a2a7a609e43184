"""The truncated SVD of all partitions together: Krylov passes over their normalized blocks."""

from collections.abc import Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import reduce
from operator import add
from time import perf_counter

import numpy as np

from tasks.core.block import Block, Float32Array, Float64Array, IntArray, encode_matrix
from tasks.core.errors import NumericsError
from tasks.core.fold import in_order
from tasks.core.krylov import RESOLUTION, BlockKrylov, RitzPairs
from tasks.core.krylov_passes import KrylovPasses
from tasks.core.moments import Moments
from tasks.core.partition_steps import gene_ranks
from tasks.core.progress import Progress, report
from tasks.core.references import GeneOrder, Model, Normalized
from tasks.core.settings import Settings
from tasks.core.store import ObjectRef, Outcome, StageKey, Store

VERSION = 1


def fit_svd(store: Store, partitions: Sequence[Normalized], order: GeneOrder, settings: Settings) -> Outcome[Model]:
    """Fit the leading components of the normalized matrix of all partitions.

    Raises:
        NumericsError: a block holds values that are not finite; names it.
    """
    of_settings = settings.model_dump(include={"pca_dim", "svd_tolerance", "svd_max_passes", "seed"})
    inputs = of_settings | {"cells": [part.key for part in partitions], "order": order.key}
    key = StageKey(stage="svd", version=VERSION, inputs=inputs)

    def make() -> Model:
        moments = reduce(add, (Moments.from_arrow(store.get(part.moments)) for part in partitions))
        seen = _expressed(moments, settings.pca_dim)
        krylov = BlockKrylov(len(seen), settings.pca_dim, np.random.default_rng([settings.seed, VERSION]))
        passes = KrylovPasses(store, key)
        passes.restore(krylov)
        with ThreadPoolExecutor(settings.threads) as executor:
            gram = _Gram(store, partitions, seen, order.genes, executor, settings.threads)
            pairs = _iterate(krylov, gram, passes, moments.cells, settings)
        vectors = np.zeros((order.genes, settings.pca_dim))
        vectors[seen] = krylov.vectors(pairs.coordinates)
        return _model(store, key, _Fit(pairs, vectors, krylov.passes), moments, order, settings)

    outcome = store.answer(key, Model, make)
    KrylovPasses(store, key).remove(outcome.result.passes)
    return outcome


@dataclass(frozen=True)
class _Fit:
    pairs: RitzPairs
    vectors: Float64Array  # (genes by rank, k)
    passes: int


@dataclass(frozen=True)
class _Gram:
    """`Q -> X^T (X Q)` for the normalized blocks X, in the columns of the genes that are expressed."""

    store: Store
    partitions: Sequence[Normalized]
    seen: IntArray
    genes: int
    executor: Executor
    workers: int

    def __call__(self, q_seen: Float32Array) -> Float64Array:
        q_gl = np.zeros((self.genes, q_seen.shape[1]), np.float32)
        q_gl[self.seen] = q_seen

        def product(ref: ObjectRef) -> Float32Array:
            x_ng = Block.from_arrow(self.store.get(ref)).matrix(self.genes)
            panel: Float32Array = x_ng.T @ (x_ng @ q_gl)
            if not np.isfinite(panel).all():
                raise NumericsError(f"{self.store.locate(ref.path)} holds values that are not finite")
            return panel

        blocks = (ref for part in self.partitions for ref in part.blocks)
        total = np.zeros(q_gl.shape)
        for panel in in_order(self.executor, product, blocks, ahead=self.workers + 1):
            total += panel
        return total[self.seen]


def _expressed(moments: Moments, at_least: int) -> IntArray:
    # A gene without a count anywhere is zero in every component: leave it out of the dense work.
    seen = np.flatnonzero(moments.sums > 0)
    return seen if len(seen) >= at_least else np.arange(len(moments.sums))


def _iterate(krylov: BlockKrylov, gram: _Gram, passes: KrylovPasses, cells: int, settings: Settings) -> RitzPairs:
    pairs = krylov.ritz()
    while not _is_done(krylov, pairs, settings):
        began = perf_counter()
        krylov.advance(gram)
        passes.save(krylov)
        pairs = krylov.ritz()
        note = f"worst residual {_worst(pairs, settings):.1e}, {cells / (perf_counter() - began):,.0f} cells/s"
        report(Progress("svd", "pass", krylov.passes, note=note))
    return pairs


def _is_done(krylov: BlockKrylov, pairs: RitzPairs, settings: Settings) -> bool:
    if len(pairs.values) < settings.pca_dim:
        return krylov.is_complete
    is_last = krylov.is_complete or krylov.passes >= settings.svd_max_passes
    return is_last or _worst(pairs, settings) <= settings.svd_tolerance


def _worst(pairs: RitzPairs, settings: Settings) -> float:
    return float(pairs.residuals.max()) if len(pairs.values) == settings.pca_dim else 1.0


def _model(store: Store, key: StageKey, fit: _Fit, moments: Moments, order: GeneOrder, settings: Settings) -> Model:
    ranks = gene_ranks(store, order)
    v_gk = _with_fixed_signs(fit.vectors[ranks])
    variances = fit.pairs.values**2 / moments.cells - (moments.means[ranks] @ v_gk) ** 2
    variances = np.maximum(variances, 0.0)
    return Model(
        key=key.digest,
        components=store.put(f"{key.folder}/components.arrow", encode_matrix(v_gk.astype(np.float32)), len(v_gk)),
        singular_values=tuple(fit.pairs.values),
        residuals=tuple(fit.pairs.residuals),
        variances=tuple(variances),
        explained_variance_ratio=tuple(variances / (moments.variances.sum() or 1.0)),
        passes=fit.passes,
        rank=int((fit.pairs.values > RESOLUTION * fit.pairs.values[0]).sum()),
        settled=bool(fit.pairs.residuals.max() <= settings.svd_tolerance),
    )


def _with_fixed_signs(v_gk: Float64Array) -> Float64Array:
    # As sklearn's TruncatedSVD: the loading largest in size is positive.
    largest = np.abs(v_gk).argmax(axis=0)
    return v_gk * np.where(v_gk[largest, np.arange(v_gk.shape[1])] < 0, -1.0, 1.0)
