"""The report and the live page in real Chromium: nothing is loaded, nothing runs, everybody can read it."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from taoemb.rollout.report.data import stored_report
from taoemb.rollout.report.live import live_page
from taoemb.rollout.report.page import write_report
from taoemb.rollout.state import RolloutState
from taoemb.serving.events.store import EventStore
from tests.rollout.browser import browser
from tests.rollout.recorded import NAME, START, began, ended, events_config, record, running

__all__ = ["browser"]

# Text on its background, by WCAG 2.1: contrast of every element that holds text of its own.
CONTRAST = """() => {
  const parse = (c) => { const m = c.match(/[\\d.]+/g).map(Number); return m.length > 3 ? m : [...m, 1]; };
  const lum = (c) => { const [r, g, b] = c.slice(0, 3).map((v) => { v /= 255;
    return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; }); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const back = (e) => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor);
    if (c[3] === 1) return c; } return [255, 255, 255, 1]; };
  const bad = [];
  for (const e of document.querySelectorAll('main *')) {
    const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    if (!own) continue;
    const style = getComputedStyle(e);
    const fore = parse(e.namespaceURI.endsWith('svg') ? style.fill : style.color);
    const [a, b] = [lum(fore), lum(back(e))].sort((x, y) => y - x);
    if ((a + 0.05) / (b + 0.05) < 4.5) bad.push([e.tagName, e.className.toString(), e.textContent.trim().slice(0, 30)]);
  }
  return bad; }"""
NAMELESS = """() => {
  const all = (selector) => [...document.querySelectorAll(selector)];
  const named = (e) => e.getAttribute('aria-label') || e.tagName === 'PRE';
  return [
    ...all('svg').filter((e) => e.getAttribute('role') !== 'img' || !named(e)),
    ...all('[tabindex], section, [role=region]').filter((e) => !named(e)),
    ...all('th').filter((e) => !e.getAttribute('scope')),
  ].map((e) => e.outerHTML.slice(0, 120)); }"""


@contextmanager
def opened(browser: Browser, url: str, width: int) -> Iterator[tuple[Page, list[str]]]:
    """The page, and what it asked for or complained about."""
    page = browser.new_page(viewport={"width": width, "height": 900})
    heard: list[str] = []
    page.on("console", lambda message: heard.append(f"console: {message.text}"))
    page.on("pageerror", lambda error: heard.append(f"error: {error}"))
    page.on("dialog", lambda dialog: heard.append(f"dialog: {dialog.message}"))
    page.on("request", lambda request: heard.append(f"request: {request.url}"))
    page.goto(url)
    try:
        yield page, heard
    finally:
        page.close()


@pytest.fixture(scope="module", params=["none", "running", "promoted"])
def report(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    states: dict[str, tuple[RolloutState, int, int]] = {
        "none": (began(), 0, 0),
        "running": (running(), 8, 300),
        "promoted": (ended("Promoted"), 3, 100),
    }
    folder = tmp_path_factory.mktemp(request.param)
    with EventStore(events_config(folder)) as store:
        record(store, *states[request.param])
        return write_report(stored_report(store, NAME, START + 700), folder / "out")


@pytest.mark.parametrize("width", [390, 1280])
def test_it_opens_alone_and_quietly(browser: Browser, report: Path, width: int) -> None:
    with opened(browser, report.as_uri(), width) as (page, heard):
        page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate("'hit' in window") is False
        assert heard == [f"request: {report.as_uri()}"]
        assert (
            page.evaluate("document.querySelectorAll('script, iframe, object, embed, link[rel=stylesheet]').length")
            == 0
        )


def test_it_can_be_read_by_all(browser: Browser, report: Path) -> None:
    with opened(browser, report.as_uri(), 1280) as (page, _):
        page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
        assert page.evaluate(CONTRAST) == []
        assert page.evaluate(NAMELESS) == []
        levels = page.evaluate("[...document.querySelectorAll('h1,h2,h3,h4')].map((one) => +one.tagName[1])")
        assert levels.index(1) == 0
        assert levels.count(1) == 1
        assert all(after <= before + 1 for before, after in pairwise(levels))
        assert page.evaluate("document.documentElement.lang") == "en"


def test_text_on_a_phone_is_large_enough(browser: Browser, report: Path) -> None:
    with opened(browser, report.as_uri(), 390) as (page, _):
        heights = page.evaluate(
            "[...document.querySelectorAll('svg text')].map((one) => one.getBoundingClientRect().height)"
        )
        assert min(heights) >= 9


@contextmanager
def live(folder: Path, now: RolloutState) -> Iterator[tuple[str, EventStore]]:
    with EventStore(events_config(folder)) as store:
        record(store, now, 4, 100)
        with live_page(lambda: stored_report(store, NAME, START + 700), "127.0.0.1", 0) as server:
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
            thread.start()
            try:
                yield f"http://127.0.0.1:{server.server_address[1]}/", store
            finally:
                server.shutdown()
                thread.join()


def test_the_live_page_comes_again_by_itself(browser: Browser, tmp_path: Path) -> None:
    with live(tmp_path, running()) as (url, store), opened(browser, url, 390) as (page, heard):
        assert page.locator("meta[http-equiv=refresh]").get_attribute("content") == "10"
        assert "Running" in page.inner_text("section b")
        assert heard == [f"request: {url}"]
        known = store.rollouts.read(NAME)
        assert known is not None
        from taoemb.rollout.state import to_json

        store.rollouts.update(known, to_json(ended("Promoted")), START + 605)
        page.reload()
        assert "Promoted" in page.inner_text("section b")
        assert page.locator("meta[http-equiv=refresh]").count() == 0, "nothing will change any more"
        assert [one for one in heard if not one.startswith("request: ")] == []
