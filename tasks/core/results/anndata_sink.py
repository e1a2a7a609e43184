"""Arrays of an AnnData file that are filled piece by piece, in HDF5 and in Zarr, in AnnData's documented encoding.

See https://anndata.readthedocs.io/en/stable/fileformat-prose.html for the names and versions of the encodings.
"""

from collections.abc import Iterable, Mapping
from math import isqrt, prod
from typing import Any

import h5py
import numpy as np
import zarr
from zarr.core.dtype import VariableLengthUTF8

from tasks.core.base.errors import DataError

# Values in a chunk: some hundred kilobytes, of which a reader of few cells takes few.
_CHUNK = 2**17
# A chunk of Zarr is a file, and an archive keeps a kilobyte in memory of each file until it is closed. So there are no
# more of them than this part of the root of the values.
_ROOTS = 8
# Any reader of HDF5 knows gzip; its first level takes a third of the time of the usual one.
_HDF5: dict[str, Any] = {"compression": "gzip", "compression_opts": 1, "track_times": False}


def make_group(parent: Any, name: str, encoding: tuple[str, str], attributes: Mapping[str, Any] | None = None) -> Any:
    """Make a group that says how it is encoded."""
    group = parent.create_group(name)
    describe(group, encoding, attributes)
    return group


def make_numbers(parent: Any, name: str, shape: tuple[int, ...], dtype: Any) -> Any:
    """Make an array of numbers that says so, to be filled."""
    array = make_plain(parent, name, shape, dtype)
    describe(array, ("array", "0.2.0"))
    return array


def make_texts(parent: Any, name: str, length: int) -> Any:
    """Make an array of texts, to be filled."""
    if isinstance(parent, zarr.Group):
        texts: Any = VariableLengthUTF8()
        array: Any = parent.create_array(name, shape=(length,), dtype=texts, chunks=_chunks((length,), _CHUNK))
    else:
        made = {"dtype": h5py.string_dtype(), "chunks": _chunks((length,), _CHUNK), "maxshape": (None,)}
        array = parent.create_dataset(name, shape=(length,), **made, **_HDF5)
    describe(array, ("string-array", "0.2.0"))
    return array


def make_plain(parent: Any, name: str, shape: tuple[int, ...], dtype: Any) -> Any:
    """Make an array of numbers, such as a part of a sparse matrix, that says nothing of itself."""
    if isinstance(parent, zarr.Group):
        chunks = _chunks(shape, max(_CHUNK, _ROOTS * isqrt(prod(shape))))
        return parent.create_array(name, shape=shape, dtype=np.dtype(dtype), chunks=chunks)
    # Without a maximum, HDF5 has no chunks for no rows.
    most = (None, *shape[1:])
    return parent.create_dataset(
        name, shape=shape, dtype=np.dtype(dtype), chunks=_chunks(shape, _CHUNK), maxshape=most, shuffle=True, **_HDF5
    )


class Filling:
    """An array that pieces are written into, below each other."""

    def __init__(self, array: Any, what: str) -> None:
        self._array, self._what, self._at = array, what, 0

    def put(self, piece: Any) -> None:
        """Write the next piece; what there is no place for is counted, no more."""
        stop = self._at + len(piece)
        if len(piece) and stop <= self._array.shape[0]:
            self._array[self._at : stop] = piece
        self._at = stop

    def check(self) -> None:
        """See that the array is full.

        Raises:
            DataError: there were more or fewer values than places.
        """
        if self._at != self._array.shape[0]:
            raise DataError(
                f"{self._what} has {self._at:,} values for {self._array.shape[0]:,} places: the parts of the results "
                "do not fit together"
            )


def fill(array: Any, pieces: Iterable[Any], what: str) -> None:
    """Write pieces below each other into an array.

    Raises:
        DataError: they are not as long as it together.
    """
    filling = Filling(array, what)
    for piece in pieces:
        filling.put(piece)
    filling.check()


def describe(element: Any, encoding: tuple[str, str], attributes: Mapping[str, Any] | None = None) -> None:
    """Say of a group or an array how it is encoded."""
    element.attrs["encoding-type"], element.attrs["encoding-version"] = encoding
    for name, value in (attributes or {}).items():
        element.attrs[name] = value


def _chunks(shape: tuple[int, ...], values: int) -> tuple[int, ...]:
    across = max(prod(shape[1:]), 1)
    return (max(1, min(shape[0], values // across)), *(max(1, size) for size in shape[1:]))
