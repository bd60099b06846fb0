"""A headless Chromium that loads files and nothing else, and that ends with the process that started it."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

#: Programs by the names of Debian and Fedora.
_BROWSERS = ("chromium", "chromium-browser")
_DRIVER = "chromedriver"

_FLAGS = (
    "--headless",
    # It runs as root in CI, shows one file of our own, and has no network.
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND",
    # The driver talks to it by a pipe: where that is closed, it ends.
    "--remote-debugging-pipe",
)


class _Bound(Service):
    """The driver, killed with the process that started it: setpriv(1) asks for the signal, then becomes the driver."""

    def command_line_args(self) -> list[str]:
        """Return the arguments of setpriv."""
        return ["--pdeathsig", "KILL", shutil.which(_DRIVER) or _DRIVER, *super().command_line_args()]


class Browser:
    """The browser, and what it says of the page that is open."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver

    def show(self, page: Path, *, width: int = 1280, scheme: str = "light", media: str = "screen") -> None:
        """Load a page as a screen of that width, in CSS pixels, and of that colour scheme shows it."""
        metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        self.call("Emulation.setDeviceMetricsOverride", **metrics)
        self.call(
            "Emulation.setEmulatedMedia", media=media, features=[{"name": "prefers-color-scheme", "value": scheme}]
        )
        self.driver.get(page.as_uri())

    def ask(self, script: str) -> Any:
        """Return what a script says, which runs beside the page whatever its policy is."""
        return self.driver.execute_script(script)

    def call(self, method: str, **parameters: object) -> Any:
        """Call the Chrome DevTools Protocol."""
        return self.driver.execute_cdp_cmd(method, parameters)

    def requests(self) -> list[str]:
        """Return the addresses of all requests since the last call."""
        events = (json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance"))  # type: ignore[no-untyped-call]
        return [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]

    def complaints(self) -> list[str]:
        """Return what stands on the browser's console since the last call."""
        return [entry["message"] for entry in self.driver.get_log("browser")]  # type: ignore[no-untyped-call]

    def tab(self) -> None:
        """Press the tabulator."""
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key="Tab", code="Tab", windowsVirtualKeyCode=9)


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Browser]:
    """Start a browser whose files are in the empty folder; skip where there is none."""
    program = next((path for path in map(shutil.which, _BROWSERS) if path), None)
    if program is None or shutil.which(_DRIVER) is None:
        pytest.skip("there is no Chromium with its driver; get it: python3 -m harness setup --tests")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for flag in (*_FLAGS, f"--user-data-dir={folder}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=_Bound(shutil.which("setpriv") or "setpriv"))
    try:
        yield Browser(driver)
    finally:
        driver.quit()
