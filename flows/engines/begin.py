"""How a process begins that works for the runs of others."""

import os
import threading
from contextlib import ExitStack
from dataclasses import dataclass
from importlib import import_module
from multiprocessing import parent_process
from multiprocessing.process import BaseProcess

from prefect.settings import PREFECT_API_URL, get_current_settings, temporary_settings

from flows.credentials import lent
from tasks.core.base.memory import use_one_heap
from tasks.core.numerics.fold import one_blas_thread

# What is lent is lent for as long as the process lives.
_lent = ExitStack()


@dataclass(frozen=True)
class Beginning:
    """What the processes of one run need to know, none of it secret.

    Attributes:
        block: Prefect's block with the credentials, if any: each process reads it for itself.
        server: address of the Prefect server that has it.
    """

    block: str | None
    server: str | None

    @classmethod
    def of(cls, block: str | None) -> "Beginning":
        """Take the server from the run at hand."""
        return cls(block, get_current_settings().api.url if block else None)

    def __call__(self) -> None:
        """Begin: one heap, one BLAS thread, and the credentials that the run has."""
        use_one_heap()
        # Of the libraries that are loaded.
        import_module("tasks.core.model.fit_svd")
        one_blas_thread()
        if self.block is not None:
            with temporary_settings({PREFECT_API_URL: self.server}):
                _lent.enter_context(lent(self.block))


def end_without_parent() -> None:
    """End this process once the one that started it is gone, kill -9 included."""
    threading.Thread(target=_end_after, args=(parent_process(),), daemon=True).start()


def _end_after(parent: BaseProcess | None) -> None:
    if parent is not None:
        parent.join()
        os._exit(1)
