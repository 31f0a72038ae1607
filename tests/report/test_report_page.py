"""The data report in a real browser: headless Chromium, without a network."""

import itertools
import json
import shutil

import pytest

from processing import DataProcessor
from processing.report.write import write_report
from tests.report.data import HOSTILE, make_raw

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")

from selenium.webdriver.chrome.service import Service  # noqa: E402 - after the skip
from selenium.webdriver.common.action_chains import ActionChains  # noqa: E402 - as above
from selenium.webdriver.common.by import By  # noqa: E402 - as above
from selenium.webdriver.common.keys import Keys  # noqa: E402 - as above
from selenium.webdriver.support.ui import Select  # noqa: E402 - as above

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="needs the programs chromium and chromedriver"
)

VISIBLE = "return [...document.querySelectorAll('.tiles li:not([hidden])')].length"
ACTIVE = "return document.activeElement.id || document.activeElement.dataset.picture"
OUTSIDE = """return [...document.querySelectorAll('body *')].filter(
  (e) => e.getBoundingClientRect().right > innerWidth + 1 && !e.closest('.scroll')
    && !e.closest('svg') && getComputedStyle(e).position !== 'absolute').length"""
COVERED = """return document.querySelector('.filter').getBoundingClientRect().bottom
  - document.activeElement.getBoundingClientRect().top"""
CONTRASTS = """
const light = (text) => {
  const parts = text.match(/[\\d.]+/g).slice(0, 3).map(Number).map((v) => v / 255)
    .map((v) => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
};
const behind = (e) => {
  for (; e; e = e.parentElement) {
    const colour = getComputedStyle(e).backgroundColor;
    if (!colour.endsWith(', 0)')) return colour;
  }
};
const texts = 'h1,h2,h3,h4,p,a,th,td,summary,select,button,.about';
return Math.min(...[...document.querySelectorAll(texts)]
  .filter((e) => e.checkVisibility() && !e.matches(':disabled')).map((e) => {
    const pair = [light(getComputedStyle(e).color), light(behind(e))].sort((a, b) => b - a);
    return (pair[0] + 0.05) / (pair[1] + 0.05);
  }));
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    root = tmp_path_factory.mktemp("page")
    make_raw(root / "raw")
    settings = {"image_size": 64, "progress": False, "num_workers": 1}
    processor = DataProcessor(root / "raw", root / "preprocessed", **settings)
    processor.process(["detector", "landmarker"])
    write_report(root / "report.html", [root / "preprocessed"], root / "raw")
    return root / "report.html"


@pytest.fixture(scope="module")
def chromium(page):
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, Service(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture
def browser(chromium, page):
    """The page, opened anew in a window of a desktop."""
    emulate(chromium, "prefers-color-scheme", "light")
    resize(chromium, 1280, 900)
    chromium.get(page.as_uri())
    return chromium


def resize(driver, width, height):
    shape = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", shape)


def emulate(driver, name, value):
    # Without smooth scrolling, a click hits what it aims at.
    still = {"name": "prefers-reduced-motion", "value": "reduce"}
    features = [still, {"name": name, "value": value}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def press(driver, *keys):
    for key in keys:
        driver.switch_to.active_element.send_keys(key)


def test_filters_show_the_pictures_of_a_split_and_category_and_count_them(browser):
    everything = browser.execute_script(VISIBLE)
    count = browser.find_element(By.ID, "filter-count")
    assert count.text == f"{everything} of {everything} pictures"
    assert count.get_attribute("aria-live") == "polite"
    Select(browser.find_element(By.ID, "filter-split")).select_by_visible_text("val")
    of_val = browser.execute_script(VISIBLE)
    assert 0 < of_val < everything
    assert count.text == f"{of_val} of {everything} pictures"
    assert browser.find_elements(By.CSS_SELECTOR, "#charts .dim")
    Select(browser.find_element(By.ID, "filter-category")).select_by_visible_text(HOSTILE)
    assert 0 < browser.execute_script(VISIBLE) < of_val
    browser.find_element(By.CSS_SELECTOR, ".filter button").click()
    assert browser.execute_script(VISIBLE) == everything


def test_a_click_enlarges_a_picture_and_shows_where_it_comes_from(browser):
    tile = browser.find_element(By.CSS_SELECTOR, "#random-detector .tile")
    tile.click()
    viewer = browser.find_element(By.ID, "viewer")
    assert viewer.is_displayed()
    text = viewer.text
    assert tile.find_element(By.TAG_NAME, "img").get_attribute("alt").split(",")[0] in text
    assert "0 of train_detector.npz" in text
    assert "120 x 90 pixels" in text
    assert "Boxes in pixels of the photograph" in text
    shown, small = (e.find_element(By.TAG_NAME, "img").size["width"] for e in (viewer, tile))
    assert shown > 1.5 * small
    press(browser, Keys.ESCAPE)
    assert not viewer.is_displayed()


def test_the_viewer_has_the_colours_of_categories_and_the_names_of_points(browser):
    style = "return getComputedStyle(document.querySelector('#viewer {}')).{}"
    mark, line = style.format(".mark", "backgroundColor"), style.format(".frame path", "stroke")
    for sheet in ("detector", "landmarker"):
        browser.find_element(By.CSS_SELECTOR, f"#random-{sheet} .tile").click()
        assert browser.execute_script(mark) == browser.execute_script(line)
        text = browser.find_element(By.ID, "viewer").text
        press(browser, Keys.ESCAPE)
    assert "Category\ncat" in text
    assert "left 14 25 visible" in text
    assert "right 22 25 hidden" in text


def test_tiles_of_a_row_begin_on_one_line(browser):
    resize(browser, 600, 900)
    tops = browser.execute_script(
        "return [...document.querySelectorAll('.tiles')].map((list) => [...list.children]"
        ".slice(0, 3).map((tile) => tile.getBoundingClientRect().top))"
    )
    assert all(len(set(row)) == 1 for row in tops)


def test_the_keyboard_is_enough(browser):
    press(browser, Keys.TAB)
    assert browser.execute_script("return document.activeElement.className") == "skip"
    press(browser, Keys.ENTER)
    assert browser.execute_script(ACTIVE) == "main"
    for _ in range(40):
        press(browser, Keys.TAB)
        if browser.execute_script("return document.activeElement.matches('.tile')"):
            break
    assert browser.execute_script(ACTIVE) == "0"
    outline = "return getComputedStyle(document.activeElement).outlineWidth"
    assert browser.execute_script(outline) == "3px"
    press(browser, Keys.ENTER)
    title = browser.find_element(By.ID, "viewer-title")
    first = title.text
    assert first
    press(browser, Keys.ARROW_RIGHT)
    assert title.text != first
    press(browser, Keys.ARROW_LEFT)
    assert title.text == first
    press(browser, Keys.ESCAPE)
    assert browser.execute_script(ACTIVE) == "0"  # the focus is where it was


def test_the_filter_never_covers_the_picture_that_has_the_focus(browser):
    resize(browser, 1280, 500)
    tiles = browser.find_elements(By.CSS_SELECTOR, ".tile")
    browser.execute_script("arguments[0].focus()", tiles[-1])
    for _ in tiles[:-1]:
        back = ActionChains(browser).key_down(Keys.SHIFT).send_keys(Keys.TAB).key_up(Keys.SHIFT)
        back.perform()
        assert browser.execute_script(COVERED) <= 0
    assert browser.execute_script(ACTIVE) == "0"


def test_the_viewer_speaks_the_name_of_the_next_picture(browser):
    browser.find_element(By.CSS_SELECTOR, ".tile").click()
    title = browser.find_element(By.ID, "viewer-title")
    assert title.get_attribute("aria-live") == "polite"
    press(browser, Keys.ESCAPE)


def test_a_phone_needs_no_sideways_scrolling(browser):
    resize(browser, 360, 740)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 360
    assert browser.execute_script(OUTSIDE) == 0
    wide = "return [...document.querySelectorAll('#left-out .scroll, #leaks .scroll')]"
    assert browser.execute_script(wide + ".every((e) => e.scrollWidth <= e.clientWidth)")
    browser.find_element(By.CSS_SELECTOR, ".tile").click()
    assert browser.execute_script("return document.getElementById('viewer').scrollWidth") <= 360
    press(browser, Keys.ESCAPE)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_both_themes_have_enough_contrast(browser, theme):
    emulate(browser, "prefers-color-scheme", theme)
    background = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    red = int(background.removeprefix("rgb(").split(",")[0])
    assert (red > 128) == (theme == "light")
    assert browser.execute_script(CONTRASTS) >= 4.5


def test_the_page_has_landmarks_and_headings_in_order(browser):
    levels = browser.execute_script(
        "return [...document.querySelectorAll('main h1,main h2,main h3,main h4')]"
        ".map((e) => Number(e.tagName[1]))"
    )
    assert levels.count(1) == 1
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    for landmark in ("main", "header", "nav[aria-label]", "form[aria-label]"):
        assert browser.find_elements(By.CSS_SELECTOR, landmark)


def test_nothing_is_requested_and_no_error_is_logged(browser, page):
    browser.find_element(By.CSS_SELECTOR, ".tile").click()
    press(browser, Keys.ESCAPE)
    urls = set()
    for entry in browser.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        if message["method"] == "Network.requestWillBeSent":
            urls.add(message["params"]["request"]["url"])
    assert {url.partition("#")[0] for url in urls if not url.startswith("data:")} <= {page.as_uri()}
    assert browser.get_log("browser") == []
    # The policy of the page forbids requests that a script would make.
    browser.execute_script("fetch('https://example.org/').catch(() => {})")
    refused = [e["message"] for e in browser.get_log("browser") if "example.org" in e["message"]]
    assert any("Content Security Policy" in message for message in refused)
