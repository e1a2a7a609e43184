"""What surrounds a process, made fit for the libraries that it is going to import."""

import atexit
import os
import shutil
from functools import cache
from pathlib import Path
from tempfile import TemporaryFile, mkdtemp

from tasks.core.base.paths import absolute

# What libraries keep there is compiled or looked up anew, and no result depends on it.
_CACHES = {"MPLCONFIGDIR": ("XDG_CONFIG_HOME", "~/.config"), "NUMBA_CACHE_DIR": ("XDG_CACHE_HOME", "~/.cache")}
_ENOUGH_BYTES = 2**20


@cache
def fit_surroundings() -> Path | None:
    """Have libraries draw on no screen, and keep their caches where this process can write.

    To be called before they are imported: what they find wrong, some find after all work is done.

    Returns:
        The folder of their caches, which ends with the process; None where they have others.
    """
    os.environ["MPLBACKEND"] = "agg"
    missing = [name for name, (root, folder) in _CACHES.items() if not _can_write(_first_set(name, root) or folder)]
    try:
        Path.home()
    except RuntimeError:  # a user that the system does not know
        missing.append("HOME")
    if not missing:
        return None
    own = Path(mkdtemp(prefix="tahoe-flow-caches-"))
    atexit.register(shutil.rmtree, own, ignore_errors=True)
    os.environ.update(dict.fromkeys(missing, str(own)))
    return own


def _first_set(*names: str) -> str | None:
    return next((value for name in names if (value := os.environ.get(name))), None)


def _can_write(folder: str) -> bool:
    try:
        path = absolute(folder)
        path.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=path) as file:
            file.write(bytes(_ENOUGH_BYTES))
    except (OSError, RuntimeError):
        return False
    return True
