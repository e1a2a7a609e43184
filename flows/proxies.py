"""Proxies, as the environment names them: never for this machine's own servers, and found good before any work."""

import os
import ssl

import httpx

from tasks.core.base.errors import SettingsError, first_line

_LOOPBACK = "localhost,127.0.0.1,::1"
_PROXIES = ("http_proxy", "https_proxy", "all_proxy")


def fit_proxies() -> None:
    """Have this process, and those that it starts, reach their own machine directly.

    Raises:
        SettingsError: a variable is not what the clients of servers can use.
    """
    # Where both are set, most clients read this one.
    name = "no_proxy" if os.environ.get("no_proxy") else "NO_PROXY"
    spared = os.environ.get(name, "")
    if spared != "*" and not spared.endswith(_LOOPBACK):
        spared = f"{spared},{_LOOPBACK}".lstrip(",")
    os.environ.update(no_proxy=spared, NO_PROXY=spared)
    try:
        # With certificates, or it would look for those as well.
        httpx.Client(verify=ssl.create_default_context()).close()
    except (ImportError, ValueError, httpx.InvalidURL) as error:
        wrong = next((proxy for proxy in os.environ if proxy.lower() in _PROXIES and not _is_usable(proxy)), None)
        if wrong is None:
            hint = f"cannot be read ({first_line(error)}): give hosts and addresses with commas between"
            raise SettingsError(f"{name} {hint}") from None
        # Without its value, which may hold a password.
        hint = "is no proxy that can be used: give http://host:port (SOCKS needs pip install 'httpx[socks]')"
        raise SettingsError(f"{wrong} {hint}") from None


def _is_usable(proxy: str) -> bool:
    url = os.environ[proxy]
    try:
        httpx.Client(proxy=url if "://" in url else f"http://{url}").close()
    except (ImportError, ValueError, httpx.InvalidURL):
        return False
    return True
