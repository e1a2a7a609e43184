"""What hospitals, companies and clusters set, which know nothing of the machine that a run is on."""

import os

import certifi
import pytest

from flows import server
from flows.network import fit_network
from tasks.core.base.errors import SettingsError

PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR")


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*PROXIES, *map(str.upper, PROXIES), *CERTIFICATES):
        # Restored, whatever the test sets.
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


def test_a_server_of_this_machine_is_reached_without_the_proxy(
    prefect_server: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in PROXIES[:3]:
        # Nobody answers there.
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with server.chosen() as chosen:
        chosen.check()


@pytest.mark.parametrize("given", ["", "10.0.0.0/8,.lab.org", "*"])
def test_hosts_that_need_no_proxy_are_kept(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", given)
    fit_network()
    fit_network()
    own = "localhost,127.0.0.1,::1"
    expected = {"": own, "*": "*"}.get(given, f"{given},{own}")
    assert os.environ["NO_PROXY"] == os.environ["no_proxy"] == expected


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ALL_PROXY", "socks5://somebody:secret@proxy:1080"),
        ("all_proxy", "socks://proxy:1080"),
        ("HTTPS_PROXY", "http://somebody:sec/ret@proxy:3128"),
        ("http_proxy", "direct://"),
        ("NO_PROXY", "fe80::/10"),
        ("no_proxy", "[::1]"),
        ("SSL_CERT_FILE", "/nowhere"),
    ],
)
def test_what_clients_cannot_use_is_told_in_one_line(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy" if name != "HTTPS_PROXY" else "http_proxy", "good:3128")
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=f"^proxies or certificates cannot .*{name.split('_')[1]}") as told:
        fit_network()
    assert "sec" not in str(told.value)
    assert "\n" not in str(told.value)


def test_certificates_that_are_there_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", certifi.where())
    fit_network()
