"""Ways to keep a block on disk: how large it is and how fast it is read, on one thread."""

import io
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tasks.core.numerics.block import Block, list_column
from tasks.core.numerics.packed import pack, unpack

_ROUNDS = 5


def _arrow(compression: str | None) -> tuple[Callable[[pa.Table], bytes], Callable[[bytes], pa.Table]]:
    options = pa.ipc.IpcWriteOptions(compression=compression)

    def write(table: pa.Table) -> bytes:
        sink = io.BytesIO()
        with pa.ipc.new_file(sink, table.schema, options=options) as writer:
            writer.write_table(table)
        return sink.getvalue()

    return write, lambda data: pa.ipc.open_file(pa.BufferReader(data)).read_all()


def _parquet(**options: Any) -> tuple[Callable[[pa.Table], bytes], Callable[[bytes], pa.Table]]:
    def write(table: pa.Table) -> bytes:
        sink = io.BytesIO()
        pq.write_table(table, sink, **options)
        return sink.getvalue()

    return write, lambda data: pq.read_table(pa.BufferReader(data), use_threads=False)


_DELTA = {"use_dictionary": False, "column_encoding": {"genes.list.element": "DELTA_BINARY_PACKED"}}
WAYS = {
    "Arrow, uncompressed": _arrow(None),
    "Arrow, lz4": _arrow("lz4"),
    "Arrow, zstd": _arrow("zstd"),
    "Parquet, defaults": _parquet(),
    "Parquet, deltas of genes": _parquet(compression="none", **_DELTA),
    "Parquet, deltas of genes, zstd": _parquet(compression="zstd", **_DELTA),
}


def compare(block: Block, genes: int) -> list[dict[str, Any]]:
    """Bytes a nonzero, and nonzeros a second read back to arrays, of each way to write a block of counts."""
    table = pa.ipc.open_file(pa.BufferReader(block.to_arrow())).read_all()
    wide = table.cast(pa.schema([("genes", pa.list_(pa.int32())), ("values", table.schema.field("values").type)]))
    compared = []
    for name, (write, read) in WAYS.items():
        # Parquet's deltas are of 32-bit integers; Arrow keeps the narrow ones.
        data = write(wide if "deltas" in name else table)
        seconds = []
        for _ in range(_ROUNDS):
            began = time.perf_counter()
            back = read(data)
            for column in ("genes", "values"):
                # A copy, as Arrow that is not compressed is not read before it is touched.
                list_column(back, column)[1].copy()
            seconds.append(time.perf_counter() - began)
        compared.append(_of(name, block, len(data), seconds))
    packed, seconds = pack(block, genes), []
    for _ in range(_ROUNDS):
        began = time.perf_counter()
        unpack(bytes(packed))
        seconds.append(time.perf_counter() - began)
    return [*compared, _of("gaps and counts in a byte each, zstd", block, len(packed), seconds)]


def _of(way: str, block: Block, size: int, seconds: Sequence[float]) -> dict[str, Any]:
    nonzeros = len(block.values)
    speed = nonzeros / statistics.median(seconds)
    return {"way": way, "bytes_per_nonzero": size / nonzeros, "nonzeros_per_second": speed}
