"""A real browser without a window, driven over the WebDriver protocol: Debian's chromium, where it is installed."""

import base64
import io
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

NEEDED = ("chromium", "chromedriver")
_FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars"),
]
_PATIENCE_SECONDS = 60.0
_WIDTH = 1200


class Browser:
    """One window of a browser.

    Args:
        driver: speaks to its session.
    """

    def __init__(self, driver: httpx.Client) -> None:
        self._driver = driver

    def open(self, url: str) -> None:
        self._call("url", url=url)

    def run(self, script: str, *arguments: Any) -> Any:
        """Run JavaScript in the page and give what it returns."""
        return self._call("execute/sync", script=script, args=arguments)

    @property
    def text(self) -> str:
        """What a person can read on the page."""
        return str(self.run("return document.body.innerText"))

    def wait_for(self, *texts: str) -> None:
        """Wait until a person can read all these texts."""
        self.wait_until(" and ".join(texts), lambda: all(text in self.text for text in texts))

    def wait_until(self, what: str, seen: Callable[[], Any]) -> None:
        until = time.monotonic() + _PATIENCE_SECONDS
        while not seen():
            if time.monotonic() > until:
                pytest.fail(f"no {what} on the page, which reads:\n{self.text}")
            time.sleep(0.2)

    def click(self, text: str) -> None:
        """Click the tab, button or link that says this."""
        found = "[...document.querySelectorAll('[role=tab], button, a')].find(e => e.innerText.trim() === arguments[0])"
        self.wait_until(f"'{text}' to click", lambda: self.run(f"return !!{found}", text))
        # Some buttons listen for the press, some for the click.
        press = "for (const kind of ['pointerdown', 'mousedown', 'mouseup', 'click'])"
        self.run(f"const e = {found}; {press} e.dispatchEvent(new MouseEvent(kind, {{bubbles: true}}))", text)

    def fill(self, label: str, value: str) -> None:
        """Write a value in the field of a form that has this label."""
        named = "[...document.querySelectorAll('label')].find(e => e.innerText.trim().split(' ')[0] === arguments[0])"
        self.run(
            f"""
            const field = document.getElementById({named}.htmlFor);
            // What draws the form keeps the value itself, and hears of a change by an event alone.
            Object.getOwnPropertyDescriptor(Object.getPrototypeOf(field), 'value').set.call(field, arguments[1]);
            field.dispatchEvent(new Event('input', {{bubbles: true}}));
            """,
            label,
            value,
        )

    def resize(self, width: int, height: int) -> None:
        """Give the window another size."""
        self._call("window/rect", width=width, height=height)

    def screenshot(self, path: Path, height: int, width: int = _WIDTH) -> None:
        """Leave the page as a small PNG file, so many pixels high."""
        self.resize(width, height)
        time.sleep(1.0)  # what is drawn anew has no end that could be waited for
        shot = Image.open(io.BytesIO(base64.b64decode(self._driver.get("screenshot").json()["value"])))
        shot.convert("RGB").quantize(128, dither=Image.Dither.NONE).save(path, optimize=True)

    def _call(self, command: str, **arguments: Any) -> Any:
        answer = self._driver.post(command, json=arguments)
        assert answer.is_success, answer.text
        return answer.json()["value"]


@contextmanager
def browser(profile: Path) -> Iterator[Browser]:
    """Start a browser with an empty profile, or skip the test where there is none."""
    missing = [name for name in NEEDED if shutil.which(name) is None]
    if missing:
        pytest.skip(f"no {' and no '.join(missing)}: apt-get install chromium chromium-driver brings them")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    words = ["chromedriver", f"--port={port}"]
    with (
        subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=_PATIENCE_SECONDS) as driver,
    ):
        try:
            _await(driver)
            session = f"/session/{_begin(driver, profile)}"
            try:
                with httpx.Client(base_url=driver.base_url.join(session), timeout=_PATIENCE_SECONDS) as window:
                    yield Browser(window)
            finally:
                # The browser ends with its session, not with its driver.
                driver.delete(session).raise_for_status()
        finally:
            process.terminate()


def _await(driver: httpx.Client) -> None:
    until = time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < until:
        with suppress(httpx.TransportError):
            if driver.get("status").json()["value"]["ready"]:
                return
        time.sleep(0.1)
    pytest.fail("chromedriver does not start")


def _begin(driver: httpx.Client, profile: Path) -> str:
    flags = [*_FLAGS, f"--user-data-dir={profile}", f"--window-size={_WIDTH},1000"]
    options = {"binary": shutil.which("chromium"), "args": flags}
    wanted = {"capabilities": {"alwaysMatch": {"goog:chromeOptions": options}}}
    answer = driver.post("session", json=wanted)
    assert answer.is_success, answer.text
    return str(answer.json()["value"]["sessionId"])
