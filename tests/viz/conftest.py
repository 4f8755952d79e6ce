"""Rows of every case, charts on disk, and a browser."""

from __future__ import annotations

import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from playwright.sync_api import Browser, sync_playwright

from common.settings import PROJECT
from tests.viz import viz_pages
from viz import charts, site

Rows = dict[str, dict[str, pd.DataFrame]]
GALLERY = PROJECT / "target" / "gallery"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")


@pytest.fixture(scope="session")
def _queried(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("viz engine") / "rows.pickle"
    environment = {k: v for k, v in os.environ.items() if k != "ECOM_SCHEMA_PREFIX"}
    subprocess.run(
        [sys.executable, "-m", "tests.viz.viz_engine", str(out)],
        check=True,
        cwd=PROJECT,
        env=environment,
        timeout=600,
    )
    rows: dict[str, Any] = pickle.loads(out.read_bytes())
    return rows


@pytest.fixture(scope="session")
def marts(_queried: dict[str, Any]) -> Rows:
    """The made-up marts: `marts[case][mart]`."""
    found: Rows = _queried["marts"]
    return found


@pytest.fixture(scope="session")
def rows(_queried: dict[str, Any]) -> Rows:
    """What the engine answers to each chart's SQL: `rows[case][chart]`."""
    return {case: found for case, found in _queried.items() if case != "marts"}


@pytest.fixture(scope="session")
def gallery() -> Path:
    """`target/gallery`, for people to look at."""
    GALLERY.mkdir(parents=True, exist_ok=True)
    return GALLERY


@pytest.fixture(scope="session")
def make_site(
    rows: Rows, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """Writes the site of a case once, in a path with spaces; gives its folder."""
    made: dict[str, Path] = {}

    def make(case: str) -> Path:
        if case not in made:
            base = tmp_path_factory.mktemp(f"site of {case}")
            drawn = base / "charts"
            made_up = [
                charts.drawn(chart, chart.shape(rows[case][chart.name]))
                for chart in charts.CHARTS
            ]
            charts.write_all(made_up, drawn)
            full = case != "empty"
            if full:
                viz_pages.write_artifacts(base)
            seen = viz_pages.seen() if full else viz_pages.nothing_seen()
            made[case] = site.write(base / "site", drawn, seen, base).parent
        return made[case]

    return make


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """The system's Chromium."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.fail(
            "The pages are tested in a browser, and there is none: install Chromium "
            f"(one of {', '.join(BROWSERS)})"
        )
    with sync_playwright() as tool:
        opened = tool.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield opened
        opened.close()
