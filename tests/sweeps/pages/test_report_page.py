"""The page of a scorecard in a real browser: nothing is fetched, nothing overflows, no word lies on another."""

import time

import browser
import pytest

from lanelock.engine.segment_2b.run import SEGMENT_2B
from lanelock.engine.segment_2b.store import publish
from lanelock.scoring.figures.palette import DARK, LIGHT
from lanelock.sweeps.lanes.lane import load_lane
from lanelock.sweeps.pages.scorecard import html
from lanelock.sweeps.proof.lock import Lock
from lanelock.sweeps.reports import study as study_page
from lanelock.sweeps.reports.scorecards import lock_report, run_report
from lanelock.sweeps.sweep import play
from lanelock.sweeps.workspace import Workspace

SIZES = {"wide": (1280, 900), "narrow": (390, 844)}
_FITS = "return [document.documentElement.scrollWidth, window.innerWidth]"
_OUTSIDE = """
return [...document.querySelectorAll('body *')].filter(node => !node.closest('.scroll') && !node.closest('svg'))
  .filter(node => node.getBoundingClientRect().right > window.innerWidth + 1).map(node => node.outerHTML.slice(0, 99));
"""
_OVERLAPS = """
const found = [];
for (const svg of document.querySelectorAll('svg.figure, svg.bars')) {
  const words = [...svg.querySelectorAll('text')].map(node => [node.textContent, node.getBoundingClientRect()]);
  const box = svg.getBoundingClientRect();
  for (let i = 0; i < words.length; i++) {
    const [word, a] = words[i];
    if (a.left < box.left - 4 || a.right > box.right + 4 || a.top < box.top - 4 || a.bottom > box.bottom + 4)
      found.push(`${word} lies outside`);
    for (const [other, b] of words.slice(i + 1)) {
      const wide = Math.min(a.right, b.right) - Math.max(a.left, b.left);
      const high = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
      if (wide > 1 && high > 0.35 * Math.min(a.height, b.height)) found.push(`${word} on ${other}`);
    }
  }
}
return found;
"""
_COLOURS = """
const style = node => getComputedStyle(document.querySelector(node));
return [style('body').backgroundColor, style('body').color, style('svg.figure text').fill];
"""


@pytest.fixture(scope="module")
def pages(tmp_path_factory, packs, screenshots):
    """A lock's page, a run's and a study's, as files."""
    browser.require()
    folder = tmp_path_factory.mktemp("pages")
    workspace = Workspace.at(folder / "ws")
    lane = load_lane("p3_wide").with_search(trials=2 if screenshots is None else 40)
    swept = play(lane, workspace, track=False)
    made = {
        "lock": html(lock_report(Lock.read(swept.lock), None)),
        "study": study_page.html(study_page.closed(swept.sweep, workspace)),
        "run": html(run_report(publish(SEGMENT_2B.evaluate(packs("p3_recorded"), 7), workspace.runs), workspace)),
    }
    for name, text in made.items():
        (folder / f"{name}.html").write_text(text)
    return {name: (folder / f"{name}.html").as_uri() for name in made}


@pytest.fixture(scope="module")
def driver(pages):
    with browser.browser() as found:
        yield found


def look(driver, address, size, theme):
    """Opens a page in a window of a size, for a reader whose system is light or dark."""
    wide, high = SIZES[size]
    window = {"width": wide, "height": high, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", window)
    media = {"features": [{"name": "prefers-color-scheme", "value": theme}]}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    driver.get_log("browser")  # what was said before is another page's
    driver.get(address)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("which", ["lock", "run", "study"])
def test_a_page_fits_and_says_nothing_to_the_console(driver, pages, which, size, theme):
    look(driver, pages[which], size, theme)
    inside, window = driver.execute_script(_FITS)
    assert inside <= window == SIZES[size][0] and driver.execute_script(_OUTSIDE) == []
    assert driver.get_log("browser") == []
    assert driver.execute_script("return performance.getEntriesByType('resource').length") == 0
    tokens = LIGHT if theme == "light" else DARK
    seen = driver.execute_script(_COLOURS)
    assert seen[0] == rgb(tokens["page"]) and seen[1] == rgb(tokens["ink"])
    assert seen[2] in {rgb(tokens[name]) for name in ("ink", "muted")}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("which", ["lock", "run", "study"])
def test_no_word_of_a_drawing_lies_on_another_or_outside(driver, pages, which, size):
    look(driver, pages[which], size, "light")
    assert driver.execute_script(_OVERLAPS) == []


def test_a_named_gate_leads_to_its_row(driver, pages):
    look(driver, pages["run"], "wide", "light")
    link = driver.find_element("css selector", ".banner a")
    link.click()
    row = driver.execute_script("return document.querySelector(':target').id")
    assert row == f"gate-{link.text}"


def test_pictures_for_the_docs(driver, pages, screenshots):
    if screenshots is None:
        pytest.skip("no pictures were asked for (--screenshots DIR)")
    for theme, at in (("light", 0), ("dark", "document.querySelector('#figure-s4_max_p').offsetTop - 40")):
        look(driver, pages["lock"], "wide", theme)
        window = {"width": 1280, "height": 1500, "deviceScaleFactor": 1, "mobile": False}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", window)
        driver.execute_script(f"window.scrollTo(0, {at})")
        time.sleep(0.3)
        picture = screenshots / f"scorecard-{theme}.png"
        driver.save_screenshot(str(picture))
        assert picture.stat().st_size < 400_000
        look(driver, pages["study"], "wide", theme)
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", window)
        time.sleep(0.3)
        driver.save_screenshot(str(screenshots / f"study-{theme}.png"))


def rgb(colour):
    return f"rgb({', '.join(str(int(colour[at : at + 2], 16)) for at in (1, 3, 5))})"
