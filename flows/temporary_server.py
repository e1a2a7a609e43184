"""The temporary Prefect server of one run: a process that answers on the run's own socket and ends with the run.

`python -P flows/temporary_server.py DESCRIPTOR HOME`, of a listening socket and the folder of all that it writes; stdin
stays open for as long as the run lives. Its end, after kill -9 too, is the server's, and takes along the folder.
"""

import asyncio
import os
import shutil
import socket
import sqlite3
import sys
import threading
from contextlib import closing, suppress
from pathlib import Path

from tasks.core.base.paths import absolute

_SETTINGS = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_LOGGING_LEVEL": "ERROR",
    # A server of one run has no page to show, and keeps nobody's credentials.
    "PREFECT_SERVER_REGISTER_BLOCKS_ON_START": "false",
    "PREFECT_SERVER_UI_ENABLED": "false",
}


def main(descriptor: int, home: Path) -> None:
    """Serve on a listening socket until stdin ends."""
    threading.Thread(target=_end_with_run, args=(home,), daemon=True).start()
    # What lies in the folder that it starts in, Prefect takes for its settings.
    os.chdir(home)
    os.environ.update(_SETTINGS, PREFECT_HOME=str(home))
    asyncio.run(_serve(socket.socket(fileno=descriptor), home / "prefect.db"))


def _end_with_run(home: Path) -> None:
    sys.stdin.buffer.read()
    shutil.rmtree(home, ignore_errors=True)
    os._exit(0)


async def _serve(listening: socket.socket, database: Path) -> None:
    import uvicorn  # noqa: PLC0415  (these read their settings as they are imported)
    from prefect import __version__  # noqa: PLC0415
    from prefect.server.api.server import create_app  # noqa: PLC0415

    app = create_app(final=True, webserver_only=True)
    # Prefect makes its tables by hundreds of steps, in six seconds: once for all runs, where there is a home.
    with suppress(OSError, RuntimeError, sqlite3.Error):
        kept = absolute(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / f"tahoe-flow/prefect-{__version__}.db"
        _copy(kept, database)
    is_new = not database.exists()
    async with app.router.lifespan_context(app):
        if is_new:
            with suppress(OSError, RuntimeError, sqlite3.Error):
                kept.parent.mkdir(parents=True, exist_ok=True)
                _copy(database, kept)
        await uvicorn.Server(uvicorn.Config(app, lifespan="off", log_level="error")).serve([listening])


def _copy(database: Path, path: Path) -> None:
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with (
            closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as tables,
            closing(sqlite3.connect(draft)) as copy,
        ):
            tables.backup(copy)
            # With a log beside it, it could not be read where nothing can be written.
            copy.execute("PRAGMA journal_mode = DELETE")
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
