"""S3 credentials from a Prefect block, held under its name and read anew when S3 refuses them."""

import json
from contextvars import copy_context
from typing import Any

import httpx
from prefect.client.orchestration import get_client
from prefect.exceptions import ObjectNotFound

from flows.server import ServerError
from tasks.core.base.errors import SettingsError, first_line
from tasks.core.storage.keyring import KEY_NAMES, NAMES, keyring

_SECRET = "secret"  # noqa: S105  (a type of block)
# Fields of prefect-aws's AwsCredentials, and of blocks made like it.
_FIELDS = dict(zip(("aws_access_key_id", "aws_secret_access_key", "aws_session_token"), KEY_NAMES, strict=True))
_FIELDS |= {"region_name": "AWS_DEFAULT_REGION"}
_IN_A_SECRET = (
    f"its value must be a JSON object of texts: {' and '.join(KEY_NAMES[:2])}, and of others only "
    f"{', '.join(NAMES[2:])}"
)
_IN_A_BLOCK = f"a block that is no secret must have the fields {' and '.join(list(_FIELDS)[:2])}"


def hold(block: str | None) -> None:
    """Have this process hold the credentials of a block, for all that it opens with the block's name.

    Args:
        block: its type and name, as `secret/lab`; None for none.

    Raises:
        SettingsError: there is no such block, or it does not hold credentials.
        ServerError: the Prefect server does not answer.
    """
    if block is None:
        return
    # They are read anew on any thread, where the server that this run reports to is not known.
    context = copy_context()
    keyring.hold(block, lambda: context.copy().run(_read, block))


def _read(block: str) -> dict[str, str]:
    kind, _, name = block.partition("/")
    try:
        with get_client(sync_client=True) as client:
            held = client.read_block_document_by_name(name, kind).data
    except ObjectNotFound:
        raise SettingsError(
            f"--credentials {block}: Prefect has no such block; 'prefect block ls' lists them"
        ) from None
    except httpx.HTTPError as error:
        raise ServerError(f"--credentials {block}: Prefect did not give it: {first_line(error)}") from None
    given = _value(held) if kind == _SECRET else {_FIELDS[field]: held[field] for field in _FIELDS if held.get(field)}
    if not _is_credentials(given):
        needed = _IN_A_SECRET if kind == _SECRET else _IN_A_BLOCK
        raise SettingsError(f"--credentials {block}: {needed}")
    return given


def _value(held: dict[str, Any]) -> Any:
    value = held.get("value")
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        return None


def _is_credentials(given: Any) -> bool:
    return (
        isinstance(given, dict)
        and given.keys() <= set(NAMES)
        and given.keys() >= set(KEY_NAMES[:2])
        and all(isinstance(value, str) and value for value in given.values())
    )
