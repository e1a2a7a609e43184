"""What a parquet footer says of one column in one row group, before the column is read."""

from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self

import pyarrow as pa

from tasks.core.dataset.kinds import is_number, is_text


@dataclass(frozen=True)
class Bounds:
    """Bounds of a column's values.

    Attributes:
        low: no value is below; None where that is not known or there is no value.
        high: no value is above; None likewise.
        nulls: whether there may be nulls.
        values: whether there may be values that are no nulls.
        nans: whether there may be values that are not numbers, which bounds do not cover.
    """

    low: Any = None
    high: Any = None
    nulls: bool = True
    values: bool = True
    nans: bool = True

    @classmethod
    def of(cls, statistics: Any, kind: pa.DataType, rows: int) -> Self:
        """Read the statistics of a column of some type, None where the file has none."""
        if statistics is None:
            return cls()
        nulls = statistics.null_count if statistics.has_null_count else None
        low, high = _ends(statistics, kind)
        return cls(low, high, nulls != 0, nulls != rows, pa.types.is_floating(kind))

    @property
    def constant(self) -> bool:
        """Whether all rows hold the one value `low`."""
        return self.low is not None and self.low == self.high and not self.nulls and not self.nans


def _ends(statistics: Any, kind: pa.DataType) -> tuple[Any, Any]:
    """Give the least and the largest value, where the order of a type's values in the footer is that of Python."""
    if statistics.has_min_max and (is_text(kind) or pa.types.is_boolean(kind) or is_number(kind)):
        # The bytes of a text need not be UTF-8.
        with suppress(UnicodeError):
            if isinstance(statistics.min, str | int | float):
                return statistics.min, statistics.max
    return None, None
