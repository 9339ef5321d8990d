"""The live page in a real browser, opened before, during and after a sweep of 200 trials: what a person sees and does.

One sweep and one window for all of it: the tests stand in the order in which they are played. With `--screenshots` they
also keep the pictures of docs/.
"""

import base64
import json
import re
import subprocess
import sys
import time

import browser
import pytest
from conftest import child_environment
from lanes import lane_with

from lanelock.sweeps.proof.lock import Lock
from lanelock.sweeps.proof.lock_files import find_lock
from lanelock.sweeps.workspace import Workspace

pytestmark = pytest.mark.slow
TRIALS = 200
SIZES = (1280, 390)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    browser.require()
    return Workspace.at(tmp_path_factory.mktemp("live"))


@pytest.fixture(scope="module")
def page(place, screenshots):
    with browser.comparison_page(place.root) as served, browser.browser() as driver:
        yield browser.Page(driver, served["url"], screenshots, visit=None)


@pytest.fixture(scope="module")
def seen(place, page, tmp_path_factory):
    """What the open page showed while the sweep was played: texts by time, without any reload."""
    lane_with(
        tmp_path_factory.mktemp("lane"), racing=False, batch=2, budget={"trials": TRIALS, "seconds": 900},
        sampler={"name": "tpe", "seed": 7},
    )  # fmt: skip
    lane = next(iter(tmp_path_factory.getbasetemp().glob("lane*/lane.json")))
    page.driver.get(page.root)
    shown = [page.text()]
    page.driver.execute_script("window.same = true")
    command = [sys.executable, "-m", "lanelock", "sweep", str(lane), "--jobs", "1", "--quiet"]
    with subprocess.Popen([*command, "--workspace", str(place.root)], env=child_environment()) as sweep:
        page.until("return document.querySelector('a[href=\"/sweeps/queue-1\"]') !== null", 120)
        shown.append(page.text())
        assert page.driver.execute_script("return window.same"), "the first page was not loaded again"
        page.click("a[href='/sweeps/queue-1']")
        page.until("return document.getElementById('state') !== null")
        page.driver.execute_script("window.same = true")
        drawn = set()
        while sweep.poll() is None:
            shown.append(page.text())
            drawn.add(page.driver.execute_script("return document.getElementById('figures').innerHTML.length"))
            time.sleep(0.3)
        assert sweep.returncode == 0
    page.until("return document.body.innerText.includes('GO: trial')", 60)
    shown.append(page.text())
    return shown, drawn


def requests(page):
    """The addresses that the browser asked for since this was asked last."""
    events = (json.loads(row["message"])["message"] for row in page.driver.get_log("performance"))
    return {row["params"]["request"]["url"] for row in events if row["method"] == "Network.requestWillBeSent"}


def screen(page, width, scheme):
    """Sets the window's width and the reader's theme."""
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    page.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    theme = [{"name": "prefers-color-scheme", "value": scheme}]
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": theme})


def test_the_page_follows_a_sweep_from_before_its_first_trial_to_its_decision(page, seen):
    shown, drawn = seen
    assert "No sweep has begun here" in shown[0] and "running" in shown[1]
    counts = [int(found[1]) for text in shown if (found := re.search(rf"(\d+) of {TRIALS} trials", text))]
    assert counts == sorted(counts) and counts[0] < counts[-1] == TRIALS
    assert len(drawn) >= 2, "history and front grow"
    assert "best so far: trial" in shown[len(shown) // 2] and "GO: trial" in shown[-1]
    assert page.driver.execute_script("return window.same"), "the page was not loaded again"


def test_candidates_two_of_which_are_compared(page, seen):
    boxes = page.driver.find_elements("css selector", "input[name=trial]")
    button = page.driver.find_element("css selector", "[data-two]")
    assert not button.is_enabled()
    for box in boxes[:2]:
        box.click()
    assert button.is_enabled() and not boxes[2].is_enabled(), "two, and two only"
    numbers = [box.get_attribute("value") for box in boxes[:2]]
    button.click()
    page.until("return document.querySelector('h1')?.innerText.startsWith('preferred: ')")
    assert page.driver.find_element("css selector", "h1").text == f"preferred: queue-1/{numbers[0]}"
    assert page.driver.find_elements("css selector", ".pairs .bars") and re.search("▲ better|▼ worse", page.text())


def test_a_scorecard_is_one_click_from_its_candidate(page, seen):
    page.driver.get(f"{page.root}/sweeps/queue-1")
    page.click("tr.locked a[href*='/trials/']")
    page.until("return document.body.innerText.includes('Meets band B+')")
    assert page.driver.find_elements("css selector", "#gate-wait .bars")


def test_another_candidate_is_locked_by_a_button_that_asks_why(page, seen, place):
    page.driver.get(f"{page.root}/sweeps/queue-1")
    link = page.driver.find_element("css selector", "a[href$='/lock']")
    number = int(link.get_attribute("href").split("/")[-2])
    link.click()
    page.until("return document.getElementById('why') !== null")
    page.driver.find_element("id", "why").send_keys("it is quieter")
    page.click("main form button")
    page.until("return document.body.innerText.includes('State of proof')", 120)
    lock = Lock.read(find_lock(f"queue-1.{number}", place))
    assert lock.chosen_by_hand == "it is quieter" and lock.name in page.text()


def test_a_lock_is_verified_by_a_button_and_the_answer_stands_there(page, seen):
    page.click("main form button")
    page.until("return document.querySelector('#proof pre')?.innerText.includes('0 differ')", 240)
    assert "verified" in page.driver.find_element("id", "proof").text


def test_every_page_fits_a_phone_and_a_desk_in_light_and_in_dark(page, seen, place, screenshots):
    lock = find_lock("queue-1", place).stem
    for address in ("/", "/sweeps/queue-1", "/locks", f"/locks/{lock}", "/campaigns", "/sweeps/queue-1/trials/1"):
        for width in SIZES:
            for scheme in ("light", "dark"):
                screen(page, width, scheme)
                page.driver.get(page.root + address)
                wide = page.driver.execute_script("return document.documentElement.scrollWidth")
                assert wide <= width, (address, width, wide)
                paper = page.driver.execute_script("return getComputedStyle(document.body).backgroundColor")
                assert paper == {"light": "rgb(245, 246, 248)", "dark": "rgb(13, 17, 23)"}[scheme]
                if screenshots is not None and address == "/sweeps/queue-1" and width == SIZES[0]:
                    page.driver.execute_script("document.querySelector('.top .muted').innerText = 'mlruns'")
                    clip = {"x": 0, "y": 0, "width": width, "height": 1540, "scale": 0.68}
                    asked = {"captureBeyondViewport": True, "clip": clip}
                    picture = page.driver.execute_cdp_cmd("Page.captureScreenshot", asked)["data"]
                    (screenshots / f"live-{scheme}.png").write_bytes(base64.b64decode(picture))


def test_the_keyboard_reaches_the_content_and_every_link_in_order(page, seen):
    from selenium.webdriver.common.keys import Keys

    screen(page, SIZES[0], "light")
    page.driver.get(f"{page.root}/sweeps/queue-1")
    page.driver.find_element("tag name", "body").send_keys(Keys.TAB)
    assert page.driver.switch_to.active_element.text == "To the content"
    names = []
    for _ in range(4):
        page.driver.switch_to.active_element.send_keys(Keys.TAB)
        names.append(page.driver.switch_to.active_element.text)
    assert names == ["Sweeps", "Campaigns", "Locks", "MLflow"]


def test_the_link_to_a_trials_run_starts_mlflow_and_opens_it(page, seen):
    number = page.driver.execute_script("return document.querySelector('input[name=trial]').value")
    page.driver.get(f"{page.root}/mlflow/sweeps/queue-1/{number}")
    page.until("return location.hash.includes('/runs/') && location.port !== arguments[0]".replace(
        "arguments[0]", json.dumps(page.root.rpartition(":")[2])), 120)  # fmt: skip
    page.until(f"return document.body.innerText.includes('queue-1/{number}')", 60)


def test_nobody_else_was_asked_and_nothing_was_complained_of(page, seen):
    asked = requests(page)
    assert asked and not {url for url in asked if not url.startswith(("http://127.0.0.1:", "data:", "blob:", "about:"))}
    complaints = [row for row in page.driver.get_log("browser") if page.root in row["message"]]
    assert not complaints
