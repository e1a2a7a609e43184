"""Serve the deployments of a file from this machine: `python deployments/serve.py [FILE]`.

They are those of `prefect.yaml`, which a work pool deploys too; here no pool is needed. Each run is a process of its
own, started in the root of the checkout.
"""

import os
import sys
from pathlib import Path

# The checkout's own packages come first, as in flows/run.py.
sys.path[0] = str(Path(__file__).resolve().parents[1])

from deployments.definitions import FILE, ROOT, Definition, read  # noqa: E402  (the path must be set first)
from flows import console  # noqa: E402
from tasks.core.base.errors import SettingsError, TahoeFlowError  # noqa: E402


def main(arguments: list[str]) -> int:
    """Serve until told to stop; give the exit code."""
    try:
        _serve(read(Path(arguments[0]) if arguments else FILE))
    except TahoeFlowError as error:
        console.complain(str(error))
        return 2 if isinstance(error, SettingsError) else 1
    return 0


def _serve(definitions: list[Definition]) -> None:
    os.chdir(ROOT)
    # Prefect takes seconds to import: not before the definitions have been found good.
    from deployments.served import serve  # noqa: PLC0415
    from flows.server import configured  # noqa: PLC0415

    configured().check()
    serve(definitions)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
