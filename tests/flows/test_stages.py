"""What the flow's process holds while it runs many steps."""

from pathlib import Path

import numpy as np
from prefect import flow

from flows.stages import stages
from tasks.core.base.memory import peak_memory, reset_peak_memory
from tasks.core.base.settings import Settings
from tasks.stage import stage

STEPS, BYTES = 300, 2**23


@stage(name="large")
def large(number: int, settings: Settings) -> int:
    """Take as much memory as a block, and give a reference's worth back."""
    return int(np.full(BYTES // 8, number).sum() // (BYTES // 8))


def test_memory_stays_flat_over_many_steps(tmp_path: Path, prefect_server: None) -> None:
    settings = Settings(store=str(tmp_path), workers=2)

    @flow
    def many() -> tuple[list[int], int]:
        with stages(settings) as run:
            run.each(large, range(STEPS // 10), settings)
            reset_peak_memory()
            before = peak_memory()
            return run.each(large, range(STEPS), settings), peak_memory() - before

    numbers, grown = many()
    assert numbers == list(range(STEPS))
    # All blocks together are 2.5 GB; what Prefect keeps of a task run is some tens of kB.
    assert grown < 2**26 + 2 * BYTES
