"""What the environment tells clients of servers of proxies and certificates, found good before any work."""

import os

import httpx

from tasks.core.base.errors import SettingsError

_LOOPBACK = "localhost,127.0.0.1,::1"
_READ = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR")


def fit_network() -> None:
    """Have this process, and those that it starts, reach their own machine without a proxy, and others at all.

    Raises:
        SettingsError: a variable is not what the clients of servers can use.
    """
    # Where both are set, most clients read the first one.
    spared = os.environ.get("no_proxy") or os.environ.get("NO_PROXY", "")
    if spared != "*" and not spared.endswith(_LOOPBACK):
        spared = f"{spared},{_LOOPBACK}".lstrip(",")
    os.environ.update(no_proxy=spared, NO_PROXY=spared)
    try:
        httpx.Client().close()
    except (ImportError, OSError, ValueError, httpx.InvalidURL) as error:
        given = [name for name in os.environ if name.upper() in _READ and os.environ[name] != _LOOPBACK]
        # Without their values, which may hold a password.
        raise SettingsError(
            f"proxies or certificates cannot be used as the environment has them ({type(error).__name__}): see "
            f"{', '.join(given or _READ)}; a proxy is http://host:port, what is spared hosts with commas between, and "
            "certificates lie in files that are there"
        ) from None
