"""The report page in a real browser: it draws, its console stays silent, and pointing, tapping and typing explain it."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from demand_maint.core.report_data import ReportData
from demand_maint.report import report_html

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
if CHROMIUM is None or DRIVER is None:
    pytest.skip(
        "no chromium with chromedriver here (Debian: apt install chromium chromium-driver)", allow_module_level=True
    )
selenium = pytest.importorskip("selenium", reason="selenium is not installed (pip install selenium)")

from selenium.webdriver import Chrome  # noqa: E402  (only where a browser is there to drive)
from selenium.webdriver.chrome.options import Options  # noqa: E402
from selenium.webdriver.chrome.service import Service  # noqa: E402
from selenium.webdriver.common.action_chains import ActionChains  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Headless Chromium for the whole module."""
    options = Options()
    options.binary_location = CHROMIUM or ""
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = Chrome(options=options, service=Service(DRIVER, log_output=os.devnull))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def live_page(tmp_path_factory: pytest.TempPathFactory, live_report: ReportData) -> str:
    """Address of one root's page."""
    return _written(tmp_path_factory.mktemp("page") / "live.html", live_report)


@pytest.fixture(scope="module")
def replay_page(tmp_path_factory: pytest.TempPathFactory, replay_report: ReportData) -> str:
    """Address of a replay's page, small enough to tell two stories."""
    stories = tuple(
        msgspec.structs.replace(story, places=story.places[:5], deployments=(), events=story.events[-9:])
        for story in replay_report.stories
    )
    return _written(
        tmp_path_factory.mktemp("page") / "replay.html", msgspec.structs.replace(replay_report, stories=stories)
    )


def _written(path: Path, data: ReportData) -> str:
    path.write_text(report_html(data), encoding="utf-8")
    return path.as_uri()


def show(browser: Any, address: str, width: int, *, dark: bool = False) -> None:
    """Open `address` on a screen of `width` points."""
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600},
    )
    scheme = "dark" if dark else "light"
    browser.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    )
    browser.get(address)


def tip(browser: Any) -> str:
    """Return what the page explains at this moment, empty where it explains nothing."""
    return str(browser.find_element(By.ID, "tip").text)


def background(browser: Any) -> str:
    """Colour behind everything."""
    return str(browser.execute_script("return getComputedStyle(document.body).backgroundColor"))


@pytest.mark.parametrize("width", [1200, 760, 390, 320])
def test_it_renders_without_a_word_on_the_console(browser: Any, live_page: str, replay_page: str, width: int) -> None:
    """At desktop and phone width nothing is logged and nothing sticks out sideways; every chart has a size."""
    for address in (live_page, replay_page):
        show(browser, address, width)
        assert browser.get_log("browser") == []
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width
        areas = browser.execute_script(
            "return [...document.querySelectorAll('article:not([hidden]) .area')].map(a => [a.clientWidth, a.clientHeight])"
        )
        assert len(areas) >= 4
        assert all(wide > 150 and high > 10 for wide, high in areas)


def test_dark_and_light_differ(browser: Any, live_page: str) -> None:
    """The page follows the reader's preference for dark or light."""
    show(browser, live_page, 1200)
    light = background(browser)
    show(browser, live_page, 1200, dark=True)
    assert background(browser) != light


def test_pointing_at_the_chart_tells_the_day(browser: Any, live_page: str) -> None:
    """The cursor names the day and the value of every line there; leaving hides it."""
    show(browser, live_page, 1200)
    area = browser.find_element(By.CSS_SELECTOR, ".chart .area")
    ActionChains(browser).move_to_element(area).perform()
    told = tip(browser)
    assert "2013" in told
    assert "served" in told
    assert "seasonal naive" in told
    ActionChains(browser).move_to_element(browser.find_element(By.TAG_NAME, "h1")).perform()
    assert tip(browser) == ""


def test_pointing_at_a_mark_tells_the_reason(browser: Any, live_page: str) -> None:
    """A rollback's mark tells when and why."""
    show(browser, live_page, 1200)
    mark = browser.find_element(By.CSS_SELECTOR, ".strip .k-rollback")
    ActionChains(browser).move_to_element(mark).perform()
    assert "Rolled back to version 27" in tip(browser)
    assert "25 % worse over 4 days" in tip(browser)


def test_tapping_a_feed_fault_tells_the_place(browser: Any, live_page: str) -> None:
    """On a phone a tap on the hatched stretch names the place and the fault."""
    show(browser, live_page, 390)
    span = browser.find_element(By.CSS_SELECTOR, ".t-fault")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", span)
    ActionChains(browser).move_to_element(span).click().perform()
    assert "Place 31: constant" in tip(browser)


def test_the_keyboard_reaches_everything(browser: Any, live_page: str) -> None:
    """Arrow keys walk through the days of a focused chart and through the cells of the heat map; Escape hides."""
    show(browser, live_page, 1200)
    chart = browser.find_element(By.CSS_SELECTOR, ".chart[data-told]")
    chart.send_keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    assert "3 Jan 2013" in tip(browser)
    chart.send_keys(Keys.ESCAPE)
    assert tip(browser) == ""
    heat = browser.find_element(By.CSS_SELECTOR, ".heat")
    heat.send_keys(Keys.ARROW_RIGHT)
    assert "Place 17" in tip(browser)
    assert "x expected" in tip(browser)
    mark = browser.find_element(By.CSS_SELECTOR, "button.mark")
    assert mark.get_attribute("aria-label").startswith("Fine-tune")


def test_tabs_show_one_policy_at_a_time(browser: Any, replay_page: str) -> None:
    """A click on a policy's name shows its story and hides the others."""
    show(browser, replay_page, 1200)
    tabs = browser.find_elements(By.CSS_SELECTOR, "[role=tab]")
    assert len(tabs) == 3
    tabs[2].click()
    shown = [a.get_attribute("data-story") for a in browser.find_elements(By.TAG_NAME, "article") if a.is_displayed()]
    assert shown == ["2"]
    assert tabs[2].get_attribute("aria-selected") == "true"


def test_a_policy_in_the_plot_tells_its_figures(browser: Any, replay_page: str) -> None:
    """Pointing at a policy tells its error against the frozen model and what it cost."""
    show(browser, replay_page, 1200)
    dot = browser.find_element(By.CSS_SELECTOR, ".dot.ours")
    ActionChains(browser).move_to_element(dot).perform()
    assert "-35.2 % against frozen" in tip(browser)
    assert "CPU seconds" in tip(browser)


def test_it_prints(browser: Any, live_page: str) -> None:
    """On paper the page is light, also for a reader who prefers dark, and its pages are few."""
    show(browser, live_page, 1200, dark=True)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    assert background(browser) == "rgb(255, 255, 255)"
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    assert len(browser.execute_cdp_cmd("Page.printToPDF", {})["data"]) > 10_000
