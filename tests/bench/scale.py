"""What it takes to go past one machine, section by section.

    python -m tests.bench.scale [--cells 200000] [--rounds 3] [--output bench-scale.json] [SECTION ...]

Prints what the project promises and what was measured, and writes all measurements as JSON.
"""

import argparse
import json
import os
import tempfile
from pathlib import Path

from tests.bench import engines, full_run
from tests.bench.report import Measured, Row, table_of_rows


def _engines(scratch: Path, cells: int, rounds: int) -> tuple[Measured, list[Row]]:
    measured = engines.measure(scratch, cells, rounds)
    return measured, engines.promises(measured)


def _full_run(scratch: Path, _cells: int, _rounds: int) -> tuple[Measured, list[Row]]:
    measured = full_run.measure(folder=scratch)
    return measured, full_run.promises(measured)


SECTIONS = {"engines": _engines, "full run": _full_run}


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
            folder = Path(scratch) / name
            folder.mkdir()
            measured[name], rows = SECTIONS[name](folder, chosen.cells, chosen.rounds)
            print(f"{name}\n" + "\n".join(table_of_rows(rows)), flush=True)
    chosen.output.write_text(json.dumps(measured, indent=1))


if __name__ == "__main__":
    main()
