"""Run the flow from the command line: `python flows/run.py --help`."""

import sys
from pathlib import Path

# The checkout's own packages come first: `tasks` is a name that others use as well, and nothing in flows/ may
# pass for a top-level module.
sys.path[0] = str(Path(__file__).resolve().parents[1])

from tasks.core.base.memory import importing  # noqa: E402  (the path must be set first)

with importing():
    from flows.command_line import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
