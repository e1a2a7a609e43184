"""What it takes to go past one machine, section by section.

    python -m tests.bench.scale [--cells 200000] [--rounds 3] [--output bench-scale.json] [SECTION ...]

Prints what the project promises and what was measured, and writes all measurements as JSON.
"""

import argparse
import json
import os
import tempfile
from pathlib import Path

from tests.bench import engines
from tests.bench.report import cells_of, table

# Each measures, and says of what it measured what was promised.
SECTIONS = {"engines": engines}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("sections", nargs="*", choices=[[], *SECTIONS], help="all, unless some are named")
    options.add_argument("--cells", type=int, default=200_000, help="simulated cells")
    options.add_argument("--rounds", type=int, default=3, help="times that each is measured; medians are shown")
    options.add_argument("--output", type=Path, default=Path("bench-scale.json"), help="where the measurements go")
    chosen = options.parse_args()
    measured = {}
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["PREFECT_HOME"] = f"{scratch}/server"
        for name in chosen.sections or SECTIONS:
            measured[name] = SECTIONS[name].measure(Path(scratch), chosen.cells, chosen.rounds)
            rows = [cells_of(row) for row in SECTIONS[name].promises(measured[name])]
            print("\n".join(table([name, "measured", "promised", ""], rows)), flush=True)
    chosen.output.write_text(json.dumps(measured, indent=1))


if __name__ == "__main__":
    main()
