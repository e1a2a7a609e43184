"""Doses as the dataset's table of samples writes them: Python literals, read without running anything."""

import ast
import warnings
from collections.abc import Sequence

_MOST_CHARACTERS = 1_000
# Above this a number is no amount, and an integer may be none that a float holds.
_MOST_DOSE = 1e12


def parse_doses(written: Sequence[str | None]) -> list[tuple[float | None, str | None]]:
    """Dose and unit of each Python literal such as `[('Infigratinib', 0.05, 'uM')]`; nulls for any other text."""
    with warnings.catch_warnings():
        # Names may look like bad escapes.
        warnings.simplefilter("ignore")
        return [_parse_dose(text) for text in written]


def _parse_dose(text: str | None) -> tuple[float | None, str | None]:
    if text is None or len(text) > _MOST_CHARACTERS:
        return None, None
    try:
        value = ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None, None
    match value:
        case [(str(), int() | float() as dose, str() as unit)] if (
            not isinstance(dose, bool) and 0 <= dose <= _MOST_DOSE
        ):
            return float(dose), unit
    return None, None
