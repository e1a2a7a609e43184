"""What the environment tells clients of servers, found good before any work: certificates, and proxies.

This machine's own servers are never asked through a proxy.
"""

import os
import ssl

import httpx

from tasks.core.base.errors import SettingsError, first_line

_LOOPBACK = "localhost,127.0.0.1,::1"
_PROXIES = ("http_proxy", "https_proxy", "all_proxy")
# Of each line, clients read the first that is set.
_CERTIFICATES = (
    ("SSL_CERT_FILE", "SSL_CERT_DIR"),
    ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
    ("AWS_CA_BUNDLE",),
    ("PREFECT_API_SSL_CERT_FILE",),
)
_FILES = {"SSL_CERT_FILE", "PREFECT_API_SSL_CERT_FILE"}


def fit_network() -> None:
    """Have this process, and those that it starts, reach their own machine directly, and others at all.

    Raises:
        SettingsError: a variable is not what the clients of servers can use.
    """
    for names in _CERTIFICATES:
        _check_certificates(next((name for name in names if os.environ.get(name)), None))
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


def _check_certificates(name: str | None) -> None:
    if name is None:
        return
    path = os.environ[name]
    if name not in _FILES and any(map(os.path.isdir, path.split(os.pathsep))):
        return
    told = "names no folder"
    try:
        if name != "SSL_CERT_DIR":
            ssl.create_default_context(cafile=path)
            return
    except OSError as error:
        told = f"names no file of certificates ({error.strerror or first_line(error)})"
    raise SettingsError(f"{name}={path} {told}: name one that is there, or unset it")


def _is_usable(proxy: str) -> bool:
    url = os.environ[proxy]
    try:
        httpx.Client(proxy=url if "://" in url else f"http://{url}").close()
    except (ImportError, ValueError, httpx.InvalidURL):
        return False
    return True
