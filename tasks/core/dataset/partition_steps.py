"""What is done to each partition by itself, from its key in the store to its result there."""

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt

from tasks.core.dataset.plan import column_of_token
from tasks.core.numerics import counts as counts_module
from tasks.core.numerics import normalize as normalize_module
from tasks.core.numerics.block import Block, decode_matrix, encode_matrix
from tasks.core.numerics.moments import Moments
from tasks.core.numerics.ranked import rank_by_popularity
from tasks.core.references.cells import Cells, Counts, GeneOrder, Normalized, Vocabulary
from tasks.core.references.model import Components, Embedding
from tasks.core.storage.store import ObjectRef, Outcome, StageKey, Store

_EMBEDDING_VERSION = 2


def build_counts(store: Store, cells: Cells, vocabulary: Vocabulary) -> Outcome[Counts]:
    """Turn a partition's tokens into the columns of its counts matrix."""
    key = StageKey(stage="matrix", version=counts_module.VERSION, inputs={"cells": cells.key, "genes": vocabulary.key})

    def make() -> Counts:
        columns = column_of_token(store, vocabulary)
        refs: list[ObjectRef] = []
        empty = repeated = nonzeros = 0
        for tokens in read_blocks(store, cells.blocks):
            block, again = counts_module.build_counts(tokens, columns)
            refs.append(put_block(store, key, len(refs), block))
            empty += int((np.diff(block.offsets) == 0).sum())
            repeated += again
            nonzeros += len(block.values)
        return Counts(
            key=key.digest,
            origin=cells.origin,
            cells=cells.cells,
            nonzeros=nonzeros,
            empty_cells=empty,
            repeated_pairs=repeated,
            blocks=tuple(refs),
        )

    return store.answer(key, Counts, make)


def order_genes(store: Store, counts: Counts | None, genes: int) -> Outcome[GeneOrder]:
    """Rank the genes by the number of cells of one partition that express them; without one, by their place."""
    of = None if counts is None else counts.key
    key = StageKey(stage="gene_order", version=counts_module.VERSION, inputs={"counts": of, "genes": genes})

    def make() -> GeneOrder:
        seen = np.zeros(genes, np.int64)
        for block in read_blocks(store, counts.blocks if counts else ()):
            seen += np.bincount(block.genes, minlength=genes)
        ranks = rank_by_popularity(seen)
        ref = store.put(f"{key.folder}/ranks.arrow", encode_matrix(ranks[:, None]), genes)
        return GeneOrder(key=key.digest, genes=genes, ranks=ref)

    return store.answer(key, GeneOrder, make)


def normalize(store: Store, counts: Counts, order: GeneOrder) -> Outcome[Normalized]:
    """Normalize a partition's counts, its columns in the order given, and take the moments of its genes."""
    key = StageKey(
        stage="normalization",
        version=normalize_module.VERSION,
        inputs={"counts": counts.key, "order": order.key, "target_sum": normalize_module.TARGET_SUM},
    )

    def make() -> Normalized:
        ranks = gene_ranks(store, order)
        refs: list[ObjectRef] = []
        moments = Moments(0, np.zeros(order.genes), np.zeros(order.genes))
        for raw in read_blocks(store, counts.blocks):
            block = normalize_module.normalize(raw, ranks)
            refs.append(put_block(store, key, len(refs), block))
            moments += Moments.of(block, order.genes)
        described = store.put(f"{key.folder}/moments.arrow", moments.to_arrow(), order.genes)
        return Normalized(
            key=key.digest,
            origin=counts.origin,
            cells=counts.cells,
            nonzeros=counts.nonzeros,
            moments=described,
            blocks=tuple(refs),
        )

    return store.answer(key, Normalized, make)


def embed(store: Store, normalized: Normalized, order: GeneOrder, model: Components) -> Outcome[Embedding]:
    """Project a partition's cells on the components: `Z = X V`, float32, less the mean cell where a fit was centred."""
    key = StageKey(stage="embedding", version=_EMBEDDING_VERSION, inputs={"cells": normalized.key, "model": model.key})

    def make() -> Embedding:
        # It takes a second to import, and longer where nothing is compiled yet.
        from tasks.core.numerics.kernels import in_slabs, project  # noqa: PLC0415

        v_gk = decode_matrix(store.get(model.components))
        ranks = gene_ranks(store, order)
        by_rank = np.empty((order.genes, v_gk.shape[1]), v_gk.dtype)
        by_rank[ranks[ranks >= 0]] = v_gk[ranks >= 0]
        slabs, width = in_slabs(by_rank), by_rank.shape[1]
        z_nk = np.concatenate([project(block, slabs)[:, :width] for block in read_blocks(store, normalized.blocks)])
        if model.centre:
            z_nk -= np.array(model.centre, np.float32)
        ref = store.put(f"{key.folder}/embedding.arrow", encode_matrix(z_nk), len(z_nk))
        return Embedding(key=key.digest, origin=normalized.origin, cells=normalized.cells, table=ref)

    return store.answer(key, Embedding, make)


def gene_ranks(store: Store, order: GeneOrder) -> npt.NDArray[np.int32]:
    """(genes,) column of each gene of the vocabulary, or -1."""
    return decode_matrix(store.get(order.ranks))[:, 0]


def put_block(store: Store, key: StageKey, index: int, block: Block) -> ObjectRef:
    """Leave a block in the store, in the folder of a stage's result."""
    return store.put(f"{key.folder}/{index:05}.arrow", block.to_arrow(), block.cells)


def read_blocks(store: Store, refs: Iterable[ObjectRef]) -> Iterator[Block]:
    """Give blocks one after the other."""
    for ref in refs:
        yield Block.from_arrow(store.get(ref))
