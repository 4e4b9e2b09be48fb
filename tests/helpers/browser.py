"""A headless Chromium, driven through Debian's packages `chromium` and `chromium-driver`."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

_FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars")


class Page:
    """A page from disk in a browser, and what it has asked for and complained of."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self._driver = driver

    def open(self, path: str, fragment: str = "") -> None:
        """Open a file anew, at `#fragment`."""
        self._driver.get("about:blank")
        self._driver.get(f"file://{path}#{fragment}")

    def look(self, width: int, height: int, scheme: Literal["light", "dark"]) -> None:
        """Set the size of the window in pixels, and whether light or dark is preferred."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self._command("Emulation.setDeviceMetricsOverride", size)
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self._command("Emulation.setEmulatedMedia", {"features": [feature]})

    def _command(self, name: str, values: dict[str, Any]) -> None:
        self._driver.execute_cdp_cmd(name, values)

    def find(self, selector: str) -> WebElement:
        """Give the first element."""
        return self._driver.find_element(By.CSS_SELECTOR, selector)

    def texts(self, selector: str) -> list[str]:
        """Give the text of each element that is shown."""
        return [found.text for found in self._driver.find_elements(By.CSS_SELECTOR, selector) if found.is_displayed()]

    def choose(self, selector: str, value: str) -> None:
        """Choose an option of a list, or set a slider, as a person does."""
        self.run(
            "const found = document.querySelector(arguments[0]); found.value = arguments[1];"
            "for (const kind of ['input', 'change']) found.dispatchEvent(new Event(kind, { bubbles: true }));",
            selector,
            value,
        )

    def press(self, *keys: str) -> None:
        """Press keys where the focus is."""
        webdriver.ActionChains(self._driver).send_keys(*keys).perform()

    def run(self, script: str, *arguments: Any) -> Any:
        """Run JavaScript in the page."""
        return self._driver.execute_script(script, *arguments)

    def wait(self, script: str) -> None:
        """Wait until JavaScript gives true. Raises TimeoutException after 20 seconds."""
        WebDriverWait(self._driver, 20).until(lambda driver: driver.execute_script(script), script)

    @property
    def address(self) -> str:
        return str(self._driver.current_url)

    def complaints(self) -> list[str]:
        """Give what has come to the console since the last call."""
        return [str(entry["message"]) for entry in self._driver.get_log("browser")]  # type: ignore[no-untyped-call]

    def requests(self) -> list[str]:
        """Give the addresses that were asked for since the last call, but for data: URIs."""
        events = [json.loads(entry["message"])["message"] for entry in self._driver.get_log("performance")]  # type: ignore[no-untyped-call]
        sent = [event["params"] for event in events if event["method"] == "Network.requestWillBeSent"]
        return [event["request"]["url"] for event in sent if not event["request"]["url"].startswith("data:")]


@contextmanager
def chromium() -> Iterator[Page]:
    """Start Chromium. Where there is none the test is skipped; in continuous integration (CI=true) it fails."""
    driver_path = shutil.which("chromedriver")
    if driver_path is None or shutil.which("chromium") is None:
        message = "no Chromium: install Debian's packages chromium and chromium-driver"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(message)
    options = webdriver.ChromeOptions()
    options.binary_location = str(shutil.which("chromium"))
    for flag in _FLAGS:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver_path))
    try:
        yield Page(driver)
    finally:
        driver.quit()
