"""Run the flow from the command line: `python flows/run.py --help`."""

import sys
from io import TextIOWrapper
from pathlib import Path

# The checkout's own packages come first: `tasks` is a name that others use as well, and nothing in flows/ may
# pass for a top-level module.
sys.path[0] = str(Path(__file__).resolve().parents[1])


def _command() -> int:
    from tasks.core.base.memory import importing  # noqa: PLC0415
    from tasks.core.base.surroundings import fit_surroundings  # noqa: PLC0415

    fit_surroundings()
    if isinstance(sys.stdout, TextIOWrapper):
        # A terminal that cannot show a name shows its code.
        sys.stdout.reconfigure(errors="backslashreplace")
    with importing():
        from flows.command_line import main  # noqa: PLC0415

    return main(sys.argv[1:])


# Processes that work for this one come by here as well, and want nothing of it but the path.
if __name__ == "__main__":
    from flows.stopping import stoppable

    sys.exit(stoppable(_command))
