"""The pages, driven in the system's Chromium, from a file and without a network."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from playwright.sync_api import Browser, Page, Request

from viz import artifacts, serve, site

PAGES = pytest.mark.parametrize("page_name", site.PAGES)
CASES = pytest.mark.parametrize("case", ["sample", "unicode", "empty"])
MakeSite = Callable[[str], Path]

# What axe-core would refuse first, in the page's own words.
AUDIT = """() => {
  const wrong = [];
  const name = e =>
    (e.getAttribute('aria-label') || e.textContent || e.alt || '').trim();
  if (!document.documentElement.lang) wrong.push('no language');
  if (document.querySelectorAll('h1').length !== 1) wrong.push('not one h1');
  if (document.querySelectorAll('main').length !== 1) wrong.push('not one main');
  if (!document.title.trim()) wrong.push('no title');
  let level = 0;
  for (const h of document.querySelectorAll('h1,h2,h3,h4')) {
    const now = Number(h.tagName[1]);
    if (now > level + 1) wrong.push('heading skips to ' + h.outerHTML);
    level = now;
  }
  for (const i of document.querySelectorAll('img'))
    if (!i.alt || !i.getAttribute('width')) wrong.push('image without alt or size');
  for (const a of document.querySelectorAll('a,summary,[role=region]'))
    if (!name(a)) wrong.push('no name: ' + a.outerHTML);
  for (const t of document.querySelectorAll('th'))
    if (!t.scope) wrong.push('th without scope');
  for (const t of document.querySelectorAll('.scroll'))
    if (t.tabIndex !== 0) wrong.push('a scrolling box the keyboard cannot reach');
  const ids = [...document.querySelectorAll('[id]')].map(e => e.id);
  if (new Set(ids).size !== ids.length) wrong.push('an id twice');
  for (const e of document.querySelectorAll('[aria-labelledby]'))
    if (!document.getElementById(e.getAttribute('aria-labelledby')))
      wrong.push('label points nowhere');
  const rgb = s => (s.match(/[\\d.]+/g) || []).map(Number);
  const light = c => { const l = c.slice(0, 3).map(v => { v /= 255;
    return v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4; });
    return .2126 * l[0] + .7152 * l[1] + .0722 * l[2]; };
  const ground = e => { for (; e; e = e.parentElement) {
    const c = rgb(getComputedStyle(e).backgroundColor);
    if (c.length === 3 || c[3] > 0) return c; } return [255, 255, 255]; };
  for (const e of document.querySelectorAll('body *')) {
    if (![...e.childNodes].some(n => n.nodeType === 3 && n.data.trim())) continue;
    if (['STYLE', 'SCRIPT'].includes(e.tagName)) continue;
    const pair = [light(rgb(getComputedStyle(e).color)), light(ground(e))].sort();
    const ratio = (Math.max(...pair) + .05) / (Math.min(...pair) + .05);
    if (ratio < 4.5) wrong.push('contrast ' + ratio.toFixed(1) + ': ' + e.outerHTML);
  }
  return wrong;
}"""


def _open(
    browser: Browser, url: str, *, width: int = 1280, scheme: str = "light"
) -> tuple[Page, list[str], list[str]]:
    """A page, what its console complains of, and what it asks for."""
    page = browser.new_page(
        viewport={"width": width, "height": 900},
        color_scheme="dark" if scheme == "dark" else "light",
    )
    complaints: list[str] = []
    asked: list[str] = []

    def note(request: Request) -> None:
        asked.append(request.url)

    page.on("console", lambda said: complaints.append(said.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("requestfailed", lambda request: complaints.append(request.url))
    page.on("request", note)
    page.goto(url, wait_until="load")
    return page, complaints, asked


def _hrefs(page: Page) -> list[str]:
    found: list[str] = page.eval_on_selector_all("a", "all => all.map(a => a.href)")
    return found


@CASES
@PAGES
def test_nothing_fails_and_nothing_leaves_the_page(
    case: str, page_name: str, make_site: MakeSite, browser: Browser
) -> None:
    folder = make_site(case)
    page, complaints, asked = _open(browser, (folder / page_name).as_uri())
    assert complaints == []
    assert all(url.startswith((folder.as_uri(), "data:")) for url in asked)
    page.close()


@CASES
@PAGES
def test_every_link_works(
    case: str, page_name: str, make_site: MakeSite, browser: Browser
) -> None:
    folder = make_site(case)
    page, _, _ = _open(browser, (folder / page_name).as_uri())
    links = _hrefs(page)
    assert len(links) >= 4
    for link in links:
        parts = urlsplit(link)
        assert parts.scheme == "file", link
        target = Path(unquote(parts.path))
        assert target.is_file(), link
        assert target.is_relative_to(folder), link
        if parts.fragment:
            assert f'id="{parts.fragment}"' in target.read_text(encoding="utf-8"), link
    page.close()


@CASES
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_chart_shows(
    case: str, scheme: str, make_site: MakeSite, browser: Browser, gallery: Path
) -> None:
    folder = make_site(case)
    page, _, asked = _open(browser, (folder / "index.html").as_uri(), scheme=scheme)
    sizes = page.eval_on_selector_all(
        "main img", "all => all.map(i => [i.complete, i.naturalWidth, i.clientWidth])"
    )
    assert len(sizes) == 5
    assert all(done and natural > 0 and shown > 200 for done, natural, shown in sizes)
    dark = [url for url in asked if url.endswith("-dark.svg")]
    assert len(dark) == (5 if scheme == "dark" else 0)
    page.screenshot(path=gallery / f"site-{case}-{scheme}.png", full_page=True)
    page.close()


@PAGES
@pytest.mark.parametrize("width", [320, 390])
def test_a_phone_scrolls_one_way(
    page_name: str, width: int, make_site: MakeSite, browser: Browser, gallery: Path
) -> None:
    url = (make_site("unicode") / page_name).as_uri()
    page, _, _ = _open(browser, url, width=width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    name = page_name.removesuffix(".html")
    page.screenshot(path=gallery / f"site-phone-{name}-{width}.png", full_page=True)
    page.close()


@CASES
@PAGES
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_is_fit_for_all(
    case: str, page_name: str, scheme: str, make_site: MakeSite, browser: Browser
) -> None:
    url = (make_site(case) / page_name).as_uri()
    page, _, _ = _open(browser, url, scheme=scheme)
    page.eval_on_selector_all("details", "all => all.forEach(d => d.open = true)")
    assert page.evaluate(AUDIT) == []
    page.close()


def test_the_keyboard_reaches_everything(make_site: MakeSite, browser: Browser) -> None:
    page, _, _ = _open(browser, (make_site("sample") / "index.html").as_uri())
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    inside = "document.querySelector('main').contains(document.activeElement)"
    assert page.evaluate(inside)
    page.locator("summary").first.focus()
    page.keyboard.press("Enter")
    assert page.locator("details").first.get_attribute("open") is not None
    assert page.locator("details table").first.is_visible()
    page.close()


def test_names_from_the_data_are_text_not_markup(
    make_site: MakeSite, browser: Browser
) -> None:
    folder = make_site("unicode")
    page, _, _ = _open(browser, (folder / "index.html").as_uri())
    cells = page.locator("#customer_activity td").all_text_contents()
    assert "$x_1$ & <b>" in cells
    assert page.locator("main b").count() == 0
    page.goto((folder / "dictionary.html").as_uri())
    assert page.locator("script").count() == 0
    assert page.get_by_text("<script>alert(1)</script>").count() == 1
    page.close()


def test_the_status_says_what_is_known(make_site: MakeSite, browser: Browser) -> None:
    page, _, _ = _open(browser, (make_site("sample") / "status.html").as_uri())
    words = page.locator("main").inner_text()
    assert "1 fail, 1 pass" in words
    assert "sums_agree" in words
    assert "1,234,567" in words
    assert "12,345" in words
    assert "Last publish: 2026-11-24 21:05:00 UTC" in words
    assert "1 table compared" in words
    assert "no key differs" in words
    page.close()


def test_the_status_says_what_is_not_known(
    make_site: MakeSite, browser: Browser
) -> None:
    page, _, _ = _open(browser, (make_site("empty") / "status.html").as_uri())
    words = page.locator("main").inner_text()
    assert words.count("Not recorded yet") >= 4
    assert "Nothing is built yet" in words
    page.goto((make_site("empty") / "dictionary.html").as_uri())
    assert "Not recorded yet" in page.locator("main").inner_text()
    page.close()


def test_the_dictionary_has_types_and_meanings(make_site: MakeSite) -> None:
    found = artifacts.dictionary(make_site("sample").parent)
    assert [relation.name for relation in found] == ["interaction_by_age"]
    assert found[0].layer == "marts"
    columns = {column.name: column.type for column in found[0].columns}
    assert columns == {"age_band": "string", "customers": "bigint"}


def test_a_build_keeps_its_results_from_the_docs(tmp_path: Path) -> None:
    built = [{"unique_id": "test.ecom.unique_x.1", "status": "pass"}]
    (tmp_path / "build_results.json").write_text(json.dumps({"results": built}))
    docs = [{"unique_id": "model.ecom.x", "status": "success"}]
    (tmp_path / "run_results.json").write_text(json.dumps({"results": docs}))
    found = artifacts.tests(tmp_path)
    assert found is not None
    assert found.counts == {"pass": 1}


def test_results_without_a_test_are_no_tests(tmp_path: Path) -> None:
    results = [{"unique_id": "model.ecom.x", "status": "success"}]
    (tmp_path / "run_results.json").write_text(json.dumps({"results": results}))
    assert artifacts.tests(tmp_path) is None
    (tmp_path / "run_results.json").write_text('{"results": [')
    assert artifacts.tests(tmp_path) is None


def test_the_site_is_small(make_site: MakeSite) -> None:
    folder = make_site("unicode")
    files = [path for path in folder.rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files if path.name != site.DOCS)
    assert size < 6_000_000
    assert not [path for path in files if path.name.endswith(".part")]


def test_it_is_served_on_the_loopback_alone(
    make_site: MakeSite, browser: Browser
) -> None:
    with serve.listening(make_site("sample")) as server:
        host, port = str(server.server_address[0]), server.server_address[1]
        assert host == "127.0.0.1"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            page, complaints, asked = _open(browser, f"http://127.0.0.1:{port}/")
            assert complaints == []
            assert all(
                url.startswith((f"http://127.0.0.1:{port}/", "data:")) for url in asked
            )
            page.close()
        finally:
            server.shutdown()
            thread.join()
