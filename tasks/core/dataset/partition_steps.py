"""What is done to each partition by itself, from its key in the store to its result there."""

import numpy as np

from tasks.core.dataset.landing import find_tokens, remove_tokens
from tasks.core.dataset.plan import column_of_token
from tasks.core.dataset.stored_blocks import gene_ranks, put_counts, read_values
from tasks.core.numerics.block import Block, decode_matrix, encode_matrix
from tasks.core.numerics.moments import Moments
from tasks.core.numerics.normalize import NORMALIZATION
from tasks.core.numerics.ranked import rank_by_popularity
from tasks.core.references.cells import Cells, Counts, GeneOrder, InBlocks, Normalized, Preparation, Vocabulary
from tasks.core.references.model import Components, Embedding
from tasks.core.storage.store import ObjectRef, Outcome, StageKey, Store

_MATRIX_VERSION, _ORDER_VERSION, _NORMALIZED_VERSION, _EMBEDDING_VERSION = 2, 2, 2, 2


def order_genes(store: Store, cells: Cells | None, vocabulary: Vocabulary) -> Outcome[GeneOrder]:
    """Rank the genes by the number of cells of one partition that express them; without one, by their place."""
    inputs = {"cells": None if cells is None else cells.key, "genes": vocabulary.key}
    key = StageKey(stage="gene_order", version=_ORDER_VERSION, inputs=inputs)

    def make() -> GeneOrder:
        columns, seen = column_of_token(store, vocabulary), np.zeros(vocabulary.genes, np.int64)
        for ref in find_tokens(store, cells).blocks if cells else ():
            seen += np.bincount(columns[Block.from_arrow(store.get(ref)).genes], minlength=vocabulary.genes)
        ranks = rank_by_popularity(seen)
        ref = store.put(f"{key.folder}/ranks.arrow", encode_matrix(ranks[:, None]), vocabulary.genes)
        return GeneOrder(key=key.digest, genes=vocabulary.genes, ranks=ref)

    return store.answer(key, GeneOrder, make)


def build_counts(store: Store, cells: Cells, order: GeneOrder, vocabulary: Vocabulary) -> Outcome[Counts]:
    """Turn a partition's tokens into its counts matrix, columns in the order given, packed; the tokens go.

    Raises:
        CorruptObjectError: they are gone, and the matrix is not there; the partition counts as not streamed.
    """
    inputs = {"cells": cells.key, "genes": vocabulary.key, "order": order.key}
    key = StageKey(stage="matrix", version=_MATRIX_VERSION, inputs=inputs)

    def make() -> Counts:
        # It takes half a second to import, and longer where nothing is compiled yet.
        from tasks.core.numerics import counts  # noqa: PLC0415

        columns, ranks = column_of_token(store, vocabulary), gene_ranks(store, order)
        columns = np.where(columns >= 0, ranks[columns], -1).astype(np.int32)
        refs: list[ObjectRef] = []
        empty = repeated = nonzeros = 0
        for ref in find_tokens(store, cells).blocks:
            block, again = counts.build_counts(Block.from_arrow(store.get(ref)), columns)
            refs.append(put_counts(store, key, len(refs), block, order.genes))
            empty += int((np.diff(block.offsets) == 0).sum())
            repeated += again
            nonzeros += len(block.values)
        return Counts(
            key=key.digest,
            origin=cells.origin,
            cells=cells.cells,
            nonzeros=nonzeros,
            order=order,
            empty_cells=empty,
            repeated_pairs=repeated,
            blocks=tuple(refs),
        )

    outcome = store.answer(key, Counts, make)
    if not outcome.cached:
        remove_tokens(store, cells)
    return outcome


def normalize(store: Store, counts: Counts) -> Outcome[Normalized]:
    """Take the moments of the genes' normalized values; these are made of the counts whenever they are read."""
    inputs = {"counts": counts.key, "target_sum": NORMALIZATION.target_sum}
    key = StageKey(stage="normalization", version=_NORMALIZED_VERSION, inputs=inputs)
    return store.answer(key, Normalized, lambda: with_moments(store, key, counts, counts.order.genes))


def with_moments(
    store: Store, key: StageKey, counts: InBlocks, genes: int, preparation: Preparation | None = None
) -> Normalized:
    """Take the moments of the values that are made of a partition's counts, of so many genes."""
    moments, nonzeros = Moments.none(genes), 0
    for block in read_values(store, counts.blocks, preparation):
        moments += Moments.of(block, genes)
        nonzeros += len(block.values)
    return Normalized(
        key=key.digest,
        origin=counts.origin,
        cells=counts.cells,
        nonzeros=nonzeros,
        moments=store.put(f"{key.folder}/moments.arrow", moments.to_arrow(), genes),
        blocks=counts.blocks,
        preparation=preparation,
    )


def embed(store: Store, normalized: Normalized, order: GeneOrder, model: Components) -> Outcome[Embedding]:
    """Project a partition's cells on the components: `Z = X V`, float32, less the mean cell where a fit was centred."""
    key = StageKey(stage="embedding", version=_EMBEDDING_VERSION, inputs={"cells": normalized.key, "model": model.key})

    def make() -> Embedding:
        # It takes half a second to import, and longer where nothing is compiled yet.
        from tasks.core.numerics.kernels import in_slabs, project  # noqa: PLC0415

        v_gk = decode_matrix(store.get(model.components))
        ranks = gene_ranks(store, order)
        by_rank = np.empty((order.genes, v_gk.shape[1]), v_gk.dtype)
        by_rank[ranks[ranks >= 0]] = v_gk[ranks >= 0]
        slabs, width = in_slabs(by_rank), by_rank.shape[1]
        values = read_values(store, normalized.blocks, normalized.preparation)
        z_nk = np.concatenate([project(block, slabs)[:, :width] for block in values])
        if model.centre:
            z_nk -= np.array(model.centre, np.float32)
        ref = store.put(f"{key.folder}/embedding.arrow", encode_matrix(z_nk), len(z_nk))
        return Embedding(key=key.digest, origin=normalized.origin, cells=normalized.cells, table=ref)

    return store.answer(key, Embedding, make)
