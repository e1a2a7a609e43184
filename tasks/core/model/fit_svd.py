"""The truncated SVD, or the PCA, of all partitions together, from their normalized blocks on the store."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from tasks.core.base.settings import Settings
from tasks.core.dataset.stored_blocks import gene_ranks, stored_moments, stored_values
from tasks.core.model.krylov_passes import KrylovPasses
from tasks.core.numerics.block import Float32Array, IntArray, decode_matrix, encode_matrix
from tasks.core.numerics.kept_blocks import KeepFirst
from tasks.core.numerics.krylov_pca import KrylovPCA
from tasks.core.numerics.krylov_svd import KrylovSVD
from tasks.core.numerics.ranked import RankedMatrix
from tasks.core.references.cells import GeneOrder, Normalized
from tasks.core.references.model import Model
from tasks.core.storage.store import Outcome, StageKey, Store

VERSION = 8
# Reading, unpacking and normalizing is most of a pass. This much holds some 30,000 cells.
KEPT_BYTES = 2**28
_ESTIMATORS: dict[str, type[KrylovSVD]] = {"svd": KrylovSVD, "pca": KrylovPCA}


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
    method = settings.recipe_in_full.method
    key = StageKey(stage=method, version=VERSION, inputs=inputs)
    passes = KrylovPasses(store, key)

    def make() -> Model:
        ranks = gene_ranks(store, order)
        init_gk = None if start is None else decode_matrix(store.get(start.components))
        svd = _ESTIMATORS[method](
            settings.pca_dim,
            tol=settings.svd_tolerance,
            max_passes=settings.svd_max_passes,
            random_state=settings.seed,
            init=None if init_gk is None else init_gk[ranks >= 0].T,
        )
        svd.fit(_matrix(store, partitions, ranks[ranks >= 0], settings.threads), journal=passes)
        v_gk = np.zeros((len(ranks), settings.pca_dim), np.float32)
        v_gk[ranks >= 0] = svd.components_.T
        return _model(store, key, svd, v_gk)

    outcome = store.answer(key, Model, make, passes.environments)
    passes.remove(outcome.result.passes)
    return outcome


def _matrix(store: Store, partitions: Sequence[Normalized], ranks: IntArray, workers: int) -> RankedMatrix:
    moments = stored_moments(store, partitions, workers)
    blocks = stored_values(store, partitions, workers)
    read = KeepFirst(blocks.read, lambda block: block.nbytes, KEPT_BYTES)
    return RankedMatrix(replace(blocks, read=read), ranks.astype(np.int32), moments)


def _model(store: Store, key: StageKey, svd: KrylovSVD, v_gk: Float32Array) -> Model:
    return Model(
        key=key.digest,
        components=store.put(f"{key.folder}/components.arrow", encode_matrix(v_gk), len(v_gk)),
        centre=tuple(svd.components_ @ svd.mean_) if isinstance(svd, KrylovPCA) else (),
        singular_values=tuple(svd.singular_values_),
        residuals=tuple(svd.residuals_),
        settled=tuple(bool(settled) for settled in svd.settled_),
        variances=tuple(svd.explained_variance_),
        explained_variance_ratio=tuple(svd.explained_variance_ratio_),
        passes=svd.n_passes_,
        rank=svd.rank_,
    )
