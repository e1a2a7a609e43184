"""Paths as people write them."""

import os
from pathlib import Path


def absolute(given: str) -> Path:
    """Give a path from the root on, read where this process works now; `~` at its very beginning is a home folder.

    Raises:
        RuntimeError: there is no such home folder.
    """
    # A Path drops the `./` of `./~x`, and would then take it for a home folder.
    found = os.path.expanduser(given)  # noqa: PTH111
    if given.startswith("~") and found == given:
        raise RuntimeError(f"{given}: there is no such home folder")
    return Path(found).absolute()
