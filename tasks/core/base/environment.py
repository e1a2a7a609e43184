"""What makes results: the packages whose code decides the numbers, the library of linear algebra, the processor.

The same in all of this, a process gives the same bytes for the same inputs.
"""

import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError

_PACKAGES = (
    *("tahoe-flow", "numpy", "scipy", "scikit-learn", "numba", "igraph", "umap-learn", "scikit-misc"),
    *("pyarrow", "polars", "datasets", "anndata", "h5py", "s3fs", "prefect"),
)
_Text = Annotated[str, Field(max_length=200)]
_ENVIRONMENTS = TypeAdapter(Annotated[list[dict[_Text, _Text]], Field(min_length=1, max_length=1_000)])
# Of results that do not tell.
UNKNOWN = "{}"
_collected: ContextVar[set[str]] = ContextVar("environments")


@cache
def environment() -> str:
    """Describe this process, as JSON of names and versions, the same text for the same environment."""
    packages = {name: found for name in _PACKAGES if (found := _version(name)) is not None}
    made_by = {"python": platform.python_version(), **packages, "blas": _blas(), "processor": _processor()}
    return json.dumps(made_by)


@cache
def code_version() -> str:
    """Give the version of this code; of a checkout with its commit, as in `0.1.0+1a2b3c4d5e6f-dirty`."""
    packaged, commit = _version("tahoe-flow") or "0", _commit()
    return f"{packaged}+{commit}" if commit else packaged


@cache
def code_digest() -> str:
    """Give a digest of the code that decides what results are, whatever it is called: of all modules below `tasks`."""
    digest = hashlib.sha256()
    folder = Path(__file__).parents[2]
    for path in sorted(folder.rglob("*.py")):
        digest.update(f"{path.relative_to(folder)}:{path.stat().st_size}:".encode() + path.read_bytes())
    return digest.hexdigest()


def _commit() -> str:
    checkout = Path(__file__).parents[3]
    if not (checkout / ".git").exists():
        return ""
    command = ["git", "-C", str(checkout), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        # To look must not write in the checkout, which may be another user's.
        told = subprocess.run(  # noqa: S603  (git, with words of ours)
            command,
            env=os.environ | {"GIT_OPTIONAL_LOCKS": "0"},
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return told.stdout.strip()


@contextmanager
def collecting_environments() -> Iterator[set[str]]:
    """Collect the environments of all workers whose work is used in the block."""
    token = _collected.set(set())
    try:
        yield collected_environments()
    finally:
        _collected.reset(token)


def collected_environments() -> set[str]:
    """Give those that are collected around the caller so far; to add to it is to collect one."""
    return _collected.get(set())


def told_environments(listed: object) -> frozenset[str]:
    """Read a list of environments that anybody may have written."""
    try:
        return frozenset(map(json.dumps, _ENVIRONMENTS.validate_python(listed)))
    except ValidationError:
        return frozenset({UNKNOWN})


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _blas() -> str:
    """Name each library of linear algebra, its version, and the kernels that it has chosen for this processor."""
    # Each brings one, and it is only known once it is loaded.
    import numpy as np  # noqa: F401, PLC0415
    import scipy.linalg  # noqa: F401, PLC0415
    from threadpoolctl import threadpool_info  # noqa: PLC0415

    loaded = (
        " ".join(filter(None, (library["internal_api"], library["version"], library.get("architecture"))))
        for library in threadpool_info()
        if library["user_api"] == "blas"
    )
    return ", ".join(sorted(set(loaded)))


def _processor() -> str:
    """Give its kind, and the widest instructions that numpy has found there."""
    import numpy as np  # noqa: PLC0415

    extensions = np.show_config(mode="dicts") or {}
    return " ".join([platform.machine(), *extensions.get("SIMD Extensions", {}).get("found", [])[-1:]])
