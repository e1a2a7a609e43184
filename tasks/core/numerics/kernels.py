"""Sparse products and sums at the speed of the machine: loops compiled by numba, sixteen columns of a panel at a time.

A dense panel is cut into slabs of sixteen columns of float32, one vector register or two. A row's products then stay
in registers while its values are gone through, which LLVM does not do with a small array by itself; and one slab of
Tahoe's genes fits into the cache of a core. Each row, and each column of a slab, is summed in the order of the values,
so that the same rows give the same bytes on one kind of machine, whoever works.

Compiled code is cached on disk beside this file, or where `NUMBA_CACHE_DIR` says.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model

from tasks.core.base.errors import NumericsError
from tasks.core.numerics.block import Block, Float32Array, Float64Array, IntArray, NumberArray
from tasks.core.numerics.krylov import SLAB

F = TypeVar("F", bound=Callable[..., Any])

LANES = SLAB

_VECTOR = ir.VectorType(ir.FloatType(), LANES)


class _Lanes(types.Type):
    """Sixteen float32, as LLVM holds them in registers."""

    def __init__(self) -> None:
        super().__init__(name=f"float32x{LANES}")


_lanes = _Lanes()


@register_model(_Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _VECTOR)


def compiled(function: F) -> F:
    """Compile a function at its first call; it lets other threads run meanwhile."""
    try:
        return cast("F", njit(nogil=True, cache=True)(function))
    except RuntimeError:
        # There is no folder that may be written to: each process compiles for itself.
        return cast("F", njit(nogil=True)(function))


def _place(context: Any, builder: Any, kind: Any, array: Any, row: Any) -> Any:
    """Give the address of a row of sixteen."""
    data = cgutils.create_struct_proxy(kind)(context, builder, array).data
    first = builder.mul(row, ir.Constant(row.type, LANES))
    return builder.bitcast(builder.gep(data, [first]), _VECTOR.as_pointer())


@intrinsic
def _zeros(_typing: Any) -> Any:
    return _lanes(), lambda *_: ir.Constant(_VECTOR, [0.0] * LANES)


@intrinsic
def _load(_typing: Any, array: Any, row: Any) -> Any:  # noqa: ARG001  (numba asks for the types alone)
    def generate(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        return builder.load(_place(context, builder, signature.args[0], *given), align=4)

    return _lanes(array, types.intp), generate


@intrinsic
def _store(_typing: Any, array: Any, row: Any, lanes: Any) -> Any:  # noqa: ARG001
    def generate(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        *place, value = given
        builder.store(value, _place(context, builder, signature.args[0], *place), align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, _lanes), generate


@intrinsic
def _multiply_add(_typing: Any, factor: Any, lanes: Any, to: Any) -> Any:  # noqa: ARG001
    """Give `factor * lanes + to`, fused where the processor can."""

    def generate(_context: Any, builder: Any, _signature: Any, given: Any) -> Any:
        value, of, total = given
        undefined, first = ir.Constant(_VECTOR, ir.Undefined), ir.Constant(ir.IntType(32), 0)
        alone = builder.insert_element(undefined, value, first)
        same = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
        kind = ir.FunctionType(_VECTOR, [_VECTOR] * 3)
        fused = cgutils.get_or_insert_function(builder.module, kind, f"llvm.fmuladd.v{LANES}f32")
        return builder.call(fused, [builder.shuffle_vector(alone, undefined, same), of, total])

    return _lanes(types.float32, _lanes, _lanes), generate


@compiled
def _project(offsets: IntArray, columns: IntArray, values: Float32Array, q: Float32Array, scores: Float32Array) -> None:
    for row in range(len(offsets) - 1):
        total = _zeros()
        for at in range(offsets[row], offsets[row + 1]):
            total = _multiply_add(values[at], _load(q, np.intp(columns[at])), total)
        _store(scores, row, total)


@compiled
def _project_back(
    offsets: IntArray,
    columns: IntArray,
    values: Float32Array,
    q: Float32Array,
    shift: Float32Array,
    z: Float32Array,
    scores: Float32Array,
    sums: Float64Array,
) -> None:
    minus_one = np.float32(-1.0)
    for row in range(len(offsets) - 1):
        # The row's values stay in the nearest cache from one product to the other.
        start, stop = offsets[row], offsets[row + 1]
        total = _multiply_add(minus_one, _load(shift, 0), _zeros())
        for at in range(start, stop):
            total = _multiply_add(values[at], _load(q, np.intp(columns[at])), total)
        for at in range(start, stop):
            column = np.intp(columns[at])
            _store(z, column, _multiply_add(values[at], total, _load(z, column)))
        _store(scores, 0, total)
        for lane in range(scores.shape[1]):
            sums[lane] += scores[0, lane]


@compiled
def _tally(
    offsets: IntArray,
    columns: IntArray,
    values: Any,
    groups: IntArray,
    sums: Float64Array,
    squares: Float64Array,
    expressing: IntArray,
) -> None:
    for row in range(len(offsets) - 1):
        group = groups[row]
        for at in range(offsets[row], offsets[row + 1]):
            column, value = columns[at], values[at]
            sums[group, column] += value
            squares[group, column] += value * value
            expressing[group, column] += value != 0


@compiled
def _look_up(offsets: IntArray, counts: NumberArray, table: Float32Array, values: Float32Array) -> None:
    last = table.shape[1] - 1
    for row in range(len(offsets) - 1):
        for at in range(offsets[row], offsets[row + 1]):
            values[at] = table[row, min(np.int64(counts[at]), last)]


def look_up(counts: Block, table_nt: Float32Array) -> Float32Array:
    """(nonzeros,) what a table has for each cell and count; of counts past its end, what it has last.

    Raises:
        NumericsError: the rows of the block do not fit its values, or the table.
    """
    offsets = checked_offsets(counts)
    if len(table_nt) != counts.cells:
        raise NumericsError(f"has {counts.cells:,} cells, and the table {len(table_nt):,}")
    values = np.empty(len(counts.values), np.float32)
    _look_up(offsets, counts.values, table_nt, values)
    return values


def checked_offsets(block: Block) -> IntArray:
    """(cells + 1,) row pointers as compiled code takes them, which looks at no bounds.

    Raises:
        NumericsError: they do not fit the block's values.
    """
    offsets, genes, values = block.offsets.astype(np.int64), len(block.genes), len(block.values)
    if genes != values or offsets[0] != 0 or offsets[-1] != genes or (np.diff(offsets) < 0).any():
        raise NumericsError(f"has rows that do not fit its {values:,} values of {genes:,} genes")
    return offsets


def in_slabs(panel_gl: NumberArray) -> list[Float32Array]:
    """Cut a panel of `l` columns into slabs, float32 of shape (g, 16), the last one filled up with zeros."""
    genes, width = panel_gl.shape
    slabs = []
    for start in range(0, width, LANES):
        slab = np.zeros((genes, LANES), np.float32)
        part = panel_gl[:, start : start + LANES]
        slab[:, : part.shape[1]] = part
        slabs.append(slab)
    return slabs


def project(block: Block, slabs: Sequence[Float32Array]) -> Float32Array:
    """`X Q`, of shape (cells, 16 times the slabs), for the slabs of a panel of shape (genes, l).

    Raises:
        NumericsError: the block has values of genes that the panel has no row for.
    """
    rows = _rows(block, len(slabs[0]))
    scores = np.empty((len(slabs), block.cells, LANES), np.float32)
    for slab, of_slab in zip(slabs, scores, strict=True):
        _project(*rows, slab, of_slab)
    return np.hstack(list(scores))


def project_back(
    block: Block, slabs: Sequence[Float32Array], shift_l: NumberArray
) -> tuple[Float32Array, Float64Array]:
    """`X^T (X Q - 1 shift)` in float32, and the sum of `X Q - 1 shift` over the cells, for the slabs of a panel.

    Returns:
        Of shapes (genes, 16 times the slabs) and (16 times the slabs,).

    Raises:
        NumericsError: the block has values of genes that the panel has no row for.
    """
    genes, width = len(slabs[0]), LANES * len(slabs)
    rows = _rows(block, genes)
    shifts = np.zeros((len(slabs), 1, LANES), np.float32)
    shifts.reshape(-1)[: len(shift_l)] = shift_l
    products, sums, scores = np.zeros((len(slabs), genes, LANES), np.float32), np.zeros(width), shifts[0].copy()
    for at, slab in enumerate(slabs):
        _project_back(*rows, slab, shifts[at], products[at], scores, sums[at * LANES : (at + 1) * LANES])
    return np.hstack(list(products)), sums


def tally(block: Block, groups_n: IntArray, groups: int, genes: int) -> tuple[Float64Array, Float64Array, IntArray]:
    """Sum up each gene's values and their squares by group of cells, and count the cells that have a value of it.

    A float32 is squared as float32, a whole number exactly; all is summed in float64, in the order of the cells.

    Returns:
        Each of shape (groups, genes).

    Raises:
        NumericsError: the block has values of genes past the last one.
    """
    offsets, columns, values = _in_range(block, genes)
    if np.issubdtype(values.dtype, np.integer):
        values = values.astype(np.int64, copy=False)
    shape = groups, genes
    sums, squares, expressing = np.zeros(shape), np.zeros(shape), np.zeros(shape, np.int64)
    _tally(offsets, columns, values, groups_n.astype(np.int64, copy=False), sums, squares, expressing)
    return sums, squares, expressing


def _rows(block: Block, genes: int) -> tuple[IntArray, IntArray, Float32Array]:
    offsets, columns, values = _in_range(block, genes)
    return offsets, columns, np.ascontiguousarray(values, np.float32)


def _in_range(block: Block, genes: int) -> tuple[IntArray, IntArray, NumberArray]:
    """Give the arrays as compiled code takes them, which looks at no bounds."""
    offsets, columns, values = checked_offsets(block), block.genes, block.values
    low, high = int(columns.min(initial=0)), int(columns.max(initial=0))
    if len(columns) and not 0 <= low <= high < genes:
        raise NumericsError(f"has values of genes {low:,} to {high:,}, of which there are {genes:,}")
    # Of few types, for each is compiled for by itself.
    kind = np.uint16 if high <= np.iinfo(np.uint16).max else np.uint32
    return offsets, np.ascontiguousarray(columns, kind), values
