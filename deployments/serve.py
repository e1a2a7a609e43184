"""Serve the deployments of a file from this machine: `python deployments/serve.py [FILE]`.

They are those of `prefect.yaml`, which a work pool deploys too; here no pool is needed. Each run is a process of its
own, started in the root of the checkout.
"""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

# The checkout's own packages come first, as in flows/run.py.
sys.path[0] = str(Path(__file__).resolve().parents[1])

from deployments.definitions import FILE, ROOT, Definition, read  # noqa: E402  (the path must be set first)
from flows import console  # noqa: E402
from tasks.core.errors import SettingsError, TahoeFlowError, first_line  # noqa: E402

if TYPE_CHECKING:
    from prefect.deployments.runner import RunnerDeployment


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
    from prefect import serve  # noqa: PLC0415

    from flows.server import configured  # noqa: PLC0415

    configured().check()
    # While nobody serves, schedules must not pile up runs: they are paused when this ends, and go on when it starts.
    serve(*map(_to_deployment, definitions), pause_on_shutdown=True)


def _to_deployment(definition: Definition) -> "RunnerDeployment":
    from prefect.client.schemas.objects import ConcurrencyLimitConfig  # noqa: PLC0415
    from prefect.deployments.runner import RunnerDeployment  # noqa: PLC0415
    from prefect.schedules import Cron  # noqa: PLC0415

    given = definition.model_dump(exclude={"work_pool", "schedules", "concurrency_limit"})
    try:
        schedules = [Cron(line.cron, **line.model_dump(exclude={"cron"})) for line in definition.schedules]
        return RunnerDeployment.from_entrypoint(
            **given,
            schedules=schedules,
            concurrency_limit=ConcurrencyLimitConfig(**definition.concurrency_limit.model_dump()),
        )
    except ValueError as error:
        raise SettingsError(f"deployment {definition.name}: {first_line(error)}") from error


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
