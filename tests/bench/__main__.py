"""This project against what one would pick instead, on the same simulated cells, in one run.

    python -m tests.bench [--rounds 3] [--output bench.json]

Prints what the project promises and what was measured, and writes all measurements as JSON. Commands are timed as whole
process trees, in turn, so that a busy moment of the machine meets all of them: ratios are what count. Takes half an
hour or so.
"""

import argparse
import json
import os
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from tasks.core.dataset.synthetic import write_dataset
from tests.bench.alone import CLUSTERS, COMPONENTS
from tests.bench.commands import Commands, Figures
from tests.bench.report import in_turn, render

Way = Callable[[], Figures]
AGAINST_SCRIPT, CURVE = (20_000, 80_000), (5_000, 20_000, 80_000, 200_000)
_DECODED_CELLS, _SVD_CELLS, _ENCODED_CELLS = 20_000, 20_000, 5_000


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=3, help="times that each is measured; medians are shown")
    options.add_argument("--output", type=Path, default=Path("bench.json"), help="where the measurements go")
    options.add_argument("--largest", type=int, default=CURVE[-1], help="leave out larger datasets than this")
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["PREFECT_HOME"] = f"{scratch}/server"
        measured = measure(Path(scratch), chosen.rounds, chosen.largest)
    chosen.output.write_text(json.dumps(measured, indent=1))
    print(render(measured))


def measure(scratch: Path, rounds: int, largest: int) -> dict[str, Any]:
    dataset = write_dataset(scratch / "dataset", max(*AGAINST_SCRIPT, *CURVE) if largest >= CURVE[-1] else largest, 42)
    return {
        "rounds": rounds,
        "components": COMPONENTS,
        "clusters": CLUSTERS,
        "decode": _decode(Commands(dataset, _DECODED_CELLS, scratch), rounds),
        "svd": _svd(Commands(dataset, _SVD_CELLS, scratch), rounds),
        "encodings": Commands(dataset, _ENCODED_CELLS, scratch).alone("decode_encodings"),
        "commands": _commands(dataset, scratch, rounds, largest),
    }


def _decode(commands: Commands, rounds: int) -> dict[str, list[Figures]]:
    ways = ("decode", "decode_dicts", "decode_dicts_to_csr")
    return in_turn({way: partial(commands.alone, way) for way in ways}, rounds)


def _svd(commands: Commands, rounds: int) -> dict[str, list[Figures]]:
    peers = {peer: partial(commands.alone, f"svd_{peer}") for peer in ("sklearn", "scanpy")}
    return {"exact": [commands.alone("svd_exact")]} | in_turn({"ours": commands.svd_ours, **peers}, rounds)


def _commands(dataset: Path, scratch: Path, rounds: int, largest: int) -> dict[str, dict[str, list[Figures]]]:
    # Only now: Prefect reads its home when it is imported.
    from flows import server  # noqa: PLC0415

    measured = {}
    with server.chosen() as running:
        running.check()
        for cells in (size for size in CURVE if size <= largest):
            commands = Commands(dataset, cells, scratch)
            ways: dict[str, Way] = {"flow": commands.flow}
            if cells in AGAINST_SCRIPT:
                ways |= {"script": commands.script, "flow_with_server": partial(commands.flow, running.url)}
            if cells == CURVE[-1]:
                ways["without_prefect"] = commands.without_prefect
            measured[str(cells)] = in_turn(ways, rounds)
    return measured


if __name__ == "__main__":
    main()
