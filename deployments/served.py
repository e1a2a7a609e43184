"""The deployments' runs, started by this process when they are due or asked for."""

import asyncio
import signal
from collections.abc import Sequence
from typing import Any

from prefect.client.schemas.objects import ConcurrencyLimitConfig
from prefect.deployments.runner import RunnerDeployment
from prefect.runner import Runner
from prefect.schedules import Cron

from deployments.definitions import Definition
from flows import console
from tasks.core.base.errors import SettingsError, first_line


def serve(definitions: Sequence[Definition]) -> None:
    """Put deployments in force on the server, and run them until SIGTERM or Ctrl-C.

    Raises:
        SettingsError: Prefect refuses one; none is in force then.
    """
    asyncio.run(_serve([_to_deployment(definition) for definition in definitions]))


class _Runner(Runner):
    """Prefect's runner, but one that ends in order: its own answer to SIGTERM never gets to cancelling the runs."""

    def handle_sigterm(self, *_args: Any, **_kwargs: Any) -> None:
        """Cancel the runs, then leave."""
        loop = asyncio.get_running_loop()
        loop.call_soon_threadsafe(lambda: setattr(self, "ending", loop.create_task(self.astop())))


async def _serve(deployments: Sequence[RunnerDeployment]) -> None:
    # While nobody serves, schedules must not pile up runs: they are paused when this ends, and go on when it starts.
    runner = _Runner(pause_on_shutdown=True)
    for deployment in deployments:
        await runner.aadd_deployment(deployment)
    signal.signal(signal.SIGINT, runner.handle_sigterm)
    console.tell(f"Serving {', '.join(deployment.name for deployment in deployments)}.")
    await runner.start()


def _to_deployment(definition: Definition) -> RunnerDeployment:
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
