"""A real browser on the real pages, ours and MLflow's: chromium, driven by selenium. Tests skip where it is missing."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager

import pytest
from conftest import child_environment

SIZE = 1680, 1050  # of the window, in pixels
_SEEN = {  # answers to what MLflow asks or offers at a first visit
    "mlflow.workflowType_v1": '"machine_learning"',
    "mlflow.assistant.panelOpen_v1": "false",
    "mlflow.assistant.fab.autoOpenedOnFirstLoad_v1": "true",
    "mlflow.settings.telemetry.info-alert-dismissed_v1": "true",
}


def require():
    """Skips the test if no browser can be driven."""
    for program in ("chromium", "chromedriver"):
        if shutil.which(program) is None:
            pytest.skip(f"no browser: Debian's {program} is not installed (apt-get install chromium chromium-driver)")
    pytest.importorskip("selenium", reason="selenium is not installed")


@contextmanager
def browser():
    """Opens a headless window of SIZE."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    width, height = SIZE
    for flag in ("headless=new", "no-sandbox", "disable-dev-shm-usage", "disable-gpu", "hide-scrollbars"):
        options.add_argument(f"--{flag}")
    options.add_argument(f"--window-size={width},{height}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    try:
        driver.set_page_load_timeout(120)
        yield driver
    finally:
        driver.quit()


@contextmanager
def comparison_page(workspace, end=signal.SIGINT):
    """Runs `lanelock ui` over a workspace until Ctrl-C or another signal, and yields its JSON answer."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "lanelock",
        "ui",
        "--json",
        "--port",
        str(port),
    ]
    with subprocess.Popen(
        [*command, "--workspace", str(workspace)], stdout=subprocess.PIPE, text=True, env=child_environment()
    ) as served:
        try:
            said = served.stdout.readline()
            assert said, "the page did not start"
            yield json.loads(said)
        finally:
            served.send_signal(end)
            assert served.wait(60) == (-end if end == signal.SIGKILL else 0), "it ends cleanly"


def mlflow_root(served, seconds=120):
    """Follows the link to MLflow, which starts its server, until that answers. Returns the address of its pages."""

    class Staying(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *arguments):
            return None

    opener, end = urllib.request.build_opener(Staying), time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            opener.open(served["mlflow"]).close()  # a page that says it is starting
        except urllib.error.HTTPError as error:
            assert error.code == 303, error.read()
            return error.headers["Location"].rstrip("/")
        time.sleep(0.2)
    raise AssertionError(f"MLflow does not answer within {seconds} s")


class Page:
    """A window on the comparison page."""

    def __init__(self, driver, root, screenshots=None, visit="health"):
        self.driver, self.root, self._screenshots = driver, root, screenshots
        if visit is not None:
            driver.get(f"{root}/{visit}")
            for key, value in _SEEN.items():
                driver.execute_script("localStorage.setItem(arguments[0], arguments[1])", key, value)

    def open(self, address):
        """Opens a full address, or its part from `#` on, and loads everything again, as for a new visitor."""
        self.driver.get("about:blank")
        self.driver.get(address if address.startswith("http") else f"{self.root}/{address}")

    def until(self, what, seconds=60):
        """Waits until a script or a function returns a true value, and returns it."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            value = self.driver.execute_script(what) if isinstance(what, str) else what()
            if value:
                return value
            time.sleep(0.05)
        raise AssertionError(f"not seen within {seconds} s: {what}\n{self.text()[:2000]}")

    def text(self):
        return self.driver.execute_script("return document.body.innerText")

    def rows(self):
        """Returns run name -> {column: text} of every drawn row, in order. Columns outside the window are not drawn."""
        return {row["name"]: row["cells"] for row in self.until(_ROWS)}

    def click(self, css):
        self.until(lambda: self.driver.find_elements("css selector", css))[0].click()

    def follow(self, link):
        """Opens the target of a link; clicking a link in a note would open another window."""
        element = self.until(lambda: self.driver.find_elements("link text", link))[0]
        self.open(element.get_attribute("href"))

    def unfold(self):
        """Expands a note."""
        self.until("return [...document.querySelectorAll('button')].some(one => one.innerText === 'Show more')")
        self.driver.execute_script(
            "[...document.querySelectorAll('button')].find(one => one.innerText === 'Show more').click()"
        )

    def keep(self, name):
        """Saves a screenshot for docs/, if the tests were started with --screenshots."""
        if self._screenshots is not None:
            time.sleep(1.5)  # what fades in has faded in
            self.driver.save_screenshot(os.fspath(self._screenshots / f"{name}.png"))


_ROWS = """
const rows = new Map();
for (const row of document.querySelectorAll('.ag-row[row-id]')) {
  const found = rows.get(row.getAttribute('row-id')) || {at: Number(row.getAttribute('row-index')), cells: {}};
  for (const cell of row.querySelectorAll('.ag-cell'))
    found.cells[cell.getAttribute('col-id')] = cell.innerText.trim();
  found.name = found.name || row.querySelector('a[href*="/runs/"]')?.innerText.trim();
  rows.set(row.getAttribute('row-id'), found);
}
const named = [...rows.values()].filter(row => row.name).sort((a, b) => a.at - b.at);
return named.length && document.querySelector('.ag-center-cols-container .ag-cell') ? named : null;
"""
