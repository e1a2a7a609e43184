from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tasks.core.base.settings import Settings
from tasks.core.model.correct_batches import correct_batches
from tasks.core.numerics import fold, workers
from tasks.core.numerics.block import encode_matrix, encode_table
from tasks.core.references.cells import Cells
from tasks.core.references.model import Corrected, Embedding
from tasks.core.storage.store import Store
from tests.core.numerics.test_harmony import simulated


def corrected_in(folder: Path, threads: int) -> tuple[Corrected, list[bytes]]:
    """The simulated cells, in six partitions, without their batches, and the bytes of each partition."""
    store = Store(str(folder))
    cells, embeddings = [], []
    for at, (z_nk, codes_n) in enumerate(zip(*(np.array_split(part, 6) for part in simulated()), strict=True)):
        table = pa.table({"plate": [f"plate{code}" for code in codes_n]})
        metadata = store.keep("given", "metadata.arrow", encode_table(table), len(z_nk))
        cells.append(Cells(key=f"c{at}", origin="", cells=len(z_nk), nonzeros=0, metadata=metadata, landed=""))
        embedded = store.keep("given", "cells.arrow", encode_matrix(z_nk), len(z_nk))
        embeddings.append(Embedding(key=f"e{at}", origin="", cells=len(z_nk), table=embedded))
    settings = Settings(batch="plate", correction="harmony", store=str(folder), workers=threads)
    corrected = correct_batches(store, cells, embeddings, settings).result
    return corrected, [bytes(store.get(part.table)) for part in corrected.embeddings]


def test_all_rounds_are_the_work_of_all_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def at_work(threads: int) -> AbstractContextManager[workers.Workers]:
        asked.append(threads)
        return workers.at_work(threads)

    monkeypatch.setattr(fold, "at_work", at_work)
    corrected, _ = corrected_in(tmp_path, threads=3)
    assert corrected.rounds >= 2
    assert set(asked) == {3}


def test_workers_do_not_matter_to_the_last_bit(tmp_path: Path) -> None:
    (one, by_one), (many, by_many) = (corrected_in(tmp_path / str(threads), threads) for threads in (1, 3))
    assert by_one == by_many
    assert one == many
