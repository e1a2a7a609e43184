"""Run the flow from the command line: `python flows/run.py --help`."""

import sys
from pathlib import Path

# The checkout's own packages come first: `tasks` is a name that others use as well, and nothing in flows/ may
# pass for a top-level module.
sys.path[0] = str(Path(__file__).resolve().parents[1])

# Processes that work for this one come by here as well, and want nothing of it but the path.
if __name__ == "__main__":
    from tasks.core.base.memory import importing

    with importing():
        from flows.command_line import main

    sys.exit(main(sys.argv[1:]))
