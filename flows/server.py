"""Which Prefect server a run reports to."""

import httpx
from prefect.settings import get_current_settings

from tasks.core.errors import TahoeFlowError

_TIMEOUT_SECONDS = 5.0


class ServerError(TahoeFlowError, ConnectionError):
    """A Prefect server is configured but does not answer."""


def choose() -> str:
    """Check that the server that is configured answers, and say in a line which one the run uses.

    Raises:
        ServerError: one is configured and does not answer.
    """
    url = get_current_settings().api.url
    if url is None:
        return (
            "No Prefect server is configured: starting a temporary one takes some ten seconds. "
            "It leaves with its task history; what happened is in run.json."
        )
    try:
        httpx.get(f"{url}/health", timeout=_TIMEOUT_SECONDS)
    except httpx.HTTPError as error:
        raise ServerError(
            f"the Prefect server at {url} does not answer ({type(error).__name__}): start it with "
            "'prefect server start', or unset PREFECT_API_URL to use a temporary one"
        ) from error
    return f"Reporting to the Prefect server at {url}."
