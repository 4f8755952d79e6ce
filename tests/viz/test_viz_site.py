"""The pages, driven in the system's Chromium, from a file and without a network."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pandas as pd
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, Request

from tests.viz import viz_pages
from viz import artifacts, charts, serve, site, status

PAGES = pytest.mark.parametrize("page_name", site.PAGES)
CASES = pytest.mark.parametrize("case", ["sample", "unicode", "empty"])
MakeSite = Callable[[str], Path]
AXE: dict[str, object] = {"resultTypes": ["violations", "passes"]}


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
            page_text = target.read_text(encoding="utf-8")
            # dbt's page finds its nodes by script, under their ids.
            kind, _, node = parts.fragment.removeprefix("!/").partition("/")
            assert (
                node.startswith(f"{kind}.") and node in page_text
                if target.name == site.DOCS
                else f'id="{parts.fragment}"' in page_text
            ), link
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
def test_the_page_is_fit_for_all(
    case: str, page_name: str, make_site: MakeSite, browser: Browser
) -> None:
    """axe-core finds nothing, in light and dark, with everything opened."""
    url = (make_site(case) / page_name).as_uri()
    page, _, _ = _open(browser, url)
    page.eval_on_selector_all("details", "all => all.forEach(d => d.open = true)")
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
        found = Axe().run(page, options=AXE)
        assert found.violations_count == 0, found.generate_report()
        assert len(found.response["passes"]) > 15
    page.close()


def test_axe_notices_what_is_wrong(make_site: MakeSite, browser: Browser) -> None:
    page, _, _ = _open(browser, (make_site("sample") / "index.html").as_uri())
    page.evaluate(
        "document.querySelector('main img').removeAttribute('alt');"
        "document.querySelector('h1').style.color = '#ddd'"
    )
    wrong = {rule["id"] for rule in Axe().run(page, options=AXE).response["violations"]}
    assert {"image-alt", "color-contrast"} <= wrong
    page.close()


def test_the_words_of_a_chart_are_letters(
    make_site: MakeSite, browser: Browser
) -> None:
    page, _, _ = _open(browser, (make_site("unicode") / "index.html").as_uri())
    for chart in charts.CHARTS:
        card = page.locator(f"#{chart.name}")
        assert re.search(r"\d", card.locator("h2").inner_text())
        assert f"marts.{chart.mart}" in card.locator(".note").inner_text()
        # The picture's own headline and note lie outside its frame.
        drawing = card.locator(".drawing").bounding_box()
        image = card.locator("img").bounding_box()
        assert drawing is not None
        assert image is not None
        assert image["y"] < drawing["y"] - 20
        assert image["y"] + image["height"] > drawing["y"] + drawing["height"] + 10
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_paper_everything_is_there(
    scheme: str, make_site: MakeSite, browser: Browser, gallery: Path
) -> None:
    page, _, _ = _open(
        browser, (make_site("sample") / "index.html").as_uri(), scheme=scheme
    )
    page.emulate_media(media="print")
    assert page.locator("main img").count() == 5
    assert not page.locator("nav").is_visible()
    printed = page.pdf(path=gallery / f"site-print-{scheme}.pdf", format="A4")
    assert printed.startswith(b"%PDF")
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
    assert page.get_by_text("<script>alert(1)</script>").count() == 2
    assert page.locator("td code", has_text="birth_date").count() == 2
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


def test_a_publish_taken_back_is_said() -> None:
    moments = pd.to_datetime(["2026-11-24 21:05", "2026-11-24 22:00"])
    events = pd.DataFrame(
        {
            "publish_id": "p1",
            "happened_at": moments,
            "event": ["published", "rolled_back"],
        }
    )
    seen = replace(viz_pages.seen(), publishes=status.as_log(events[::-1]))
    assert seen.last_publish == "2026-11-24 21:05:00"
    assert seen.taken_back == "2026-11-24 22:00:00"
    assert viz_pages.seen().taken_back is None


def test_each_table_is_judged_by_its_newest_comparison() -> None:
    moments = pd.to_datetime(
        ["2026-11-24 22:00", "2026-11-24 21:00", "2026-11-24 21:00"]
    )
    compared = pd.DataFrame(
        {
            "checked_at": moments,
            "table_name": ["orders", "orders", "customers"],
            "differing_keys": [0, 3, 2],
        }
    )
    seen = replace(viz_pages.seen(), reconciliations=status.as_log(compared))
    assert seen.agreement == "1 of 2 tables differ: customers."


def test_logs_are_read_as_tables() -> None:
    rows = pd.DataFrame({"phases": ['{"ingest": 4.1, "build": 20}'], "rows": [12345]})
    log = status.as_log(rows)
    assert log.rows == [["ingest 4.1, build 20", "12,345"]]
    assert log.numeric == [False, True]


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
    names = [relation.name for relation in found]
    assert names == ["interaction_by_age", "fct_interactions"]
    assert [relation.layer for relation in found] == ["marts", "core"]
    assert found[0].docs == "#!/model/model.ecom.interaction_by_age"
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
