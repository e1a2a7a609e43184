"""The truncated SVD of all partitions together, from their normalized blocks on the store."""

from collections.abc import Sequence
from functools import reduce
from operator import add

import numpy as np

from tasks.core.base.settings import Settings
from tasks.core.dataset.partition_steps import gene_ranks
from tasks.core.model.krylov_passes import KrylovPasses
from tasks.core.numerics.block import Block, decode_matrix, encode_matrix
from tasks.core.numerics.fold import Blocks, KeepFirst
from tasks.core.numerics.krylov_svd import KrylovSVD
from tasks.core.numerics.moments import Moments
from tasks.core.numerics.ranked import RankedMatrix
from tasks.core.references.cells import GeneOrder, Normalized
from tasks.core.references.model import Model
from tasks.core.storage.store import Outcome, StageKey, Store

VERSION = 3
# Reading and decoding is a quarter of a pass. This much holds some 30,000 cells.
_KEPT_BYTES = 2**28


def fit_svd(
    store: Store, partitions: Sequence[Normalized], order: GeneOrder, settings: Settings, start: Model | None
) -> Outcome[Model]:
    """Fit the leading components of the normalized matrix of all partitions, from those of another fit if given.

    Raises:
        NumericsError: a block holds values that are not finite; names it.
    """
    of_settings = settings.model_dump(include={"pca_dim", "svd_tolerance", "svd_max_passes", "seed"})
    inputs = of_settings | {"cells": [part.key for part in partitions], "order": order.key}
    inputs |= {"start": None if start is None else start.key}
    key = StageKey(stage="svd", version=VERSION, inputs=inputs)
    passes = KrylovPasses(store, key)

    def make() -> Model:
        svd = KrylovSVD(
            settings.pca_dim,
            tol=settings.svd_tolerance,
            max_passes=settings.svd_max_passes,
            random_state=settings.seed,
            init=None if start is None else decode_matrix(store.get(start.components)).T,
        )
        svd.fit(_matrix(store, partitions, order, settings.threads), journal=passes)
        return _model(store, key, svd)

    outcome = store.answer(key, Model, make)
    passes.remove(outcome.result.passes)
    return outcome


def _matrix(store: Store, partitions: Sequence[Normalized], order: GeneOrder, workers: int) -> RankedMatrix:
    moments = reduce(add, (Moments.from_arrow(store.get(part.moments)) for part in partitions))
    refs = [ref for part in partitions for ref in part.blocks]
    genes = moments.extent
    read = KeepFirst(lambda ref: Block.from_arrow(store.get(ref)), lambda block: block.nbytes, _KEPT_BYTES)
    blocks = Blocks(
        sources=refs,
        names=[store.locate(ref.path) for ref in refs],
        rows=[ref.rows for ref in refs],
        read=lambda ref: read(ref).matrix(genes),
        workers=workers,
    )
    return RankedMatrix(blocks, gene_ranks(store, order), moments)


def _model(store: Store, key: StageKey, svd: KrylovSVD) -> Model:
    v_gk = svd.components_.T.astype(np.float32)
    return Model(
        key=key.digest,
        components=store.put(f"{key.folder}/components.arrow", encode_matrix(v_gk), len(v_gk)),
        singular_values=tuple(svd.singular_values_),
        residuals=tuple(svd.residuals_),
        settled=tuple(bool(settled) for settled in svd.settled_),
        variances=tuple(svd.explained_variance_),
        explained_variance_ratio=tuple(svd.explained_variance_ratio_),
        passes=svd.n_passes_,
        rank=svd.rank_,
    )
