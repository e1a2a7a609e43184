"""How a process begins that works for the runs of others."""

import os
from dataclasses import dataclass
from importlib import import_module

from tasks.core.base.memory import importing, keep_freed_memory, use_one_heap
from tasks.core.numerics.fold import one_blas_thread

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True)
class Beginning:
    """What the processes of one run need to know, none of it secret.

    Attributes:
        block: Prefect's block with the credentials, if any: each process reads it for itself.
        server: address of the Prefect server that has it.
    """

    block: str | None
    server: str | None

    def __call__(self) -> None:
        """Begin: one heap, one thread for the libraries of numbers, and the credentials that the run has."""
        use_one_heap()
        keep_freed_memory()
        with importing():
            # What the first step needs, so that it does not wait, and a worker that lacks it is known at once.
            import_module("tasks.core.dataset.partition_steps")
        # Those that are loaded, and those that will be.
        one_blas_thread()
        os.environ.update(dict.fromkeys(_THREADS, "1"))
        if self.block is not None:
            _hold(self.block, self.server)


def _hold(block: str, server: str | None) -> None:
    # Prefect takes a second to import, and nothing else of a worker's work needs it.
    from prefect.settings import PREFECT_API_URL, temporary_settings  # noqa: PLC0415

    from flows.credentials import hold  # noqa: PLC0415

    with temporary_settings({PREFECT_API_URL: server}):
        hold(block)
