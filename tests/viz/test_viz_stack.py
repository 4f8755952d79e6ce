"""Charts and site from a stack that `ecom run` has built."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from playwright.sync_api import Browser

from common.errors import DataError
from common.settings import PREFIX_VARIABLE, Settings, schema_prefix
from tests.viz import viz_pages
from viz import artifacts, charts, site, status
from viz.reader import MissingRelationError, Reader


def _total(settings: Settings, expression: str, mart: str) -> float:
    with Reader(settings) as reader:
        found = reader.rows(
            f"select {expression} as total from {schema_prefix()}marts.{mart}"
        )
    return float(found["total"].iloc[0])


@pytest.fixture(scope="module")
def drawn(stack_settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The five charts of the stack. How fast they are, `ecom bench viz` measures."""
    out = tmp_path_factory.mktemp("charts of the stack")
    charts.draw_all(stack_settings, out)
    return out


def test_all_five_are_drawn(drawn: Path) -> None:
    out = drawn
    index = json.loads((out / charts.INDEX).read_text(encoding="utf-8"))
    assert [entry["name"] for entry in index] == [c.name for c in charts.CHARTS]
    for entry in index:
        assert entry["rows"] > 0
        assert entry["built_at"]
        assert all((out / name).stat().st_size > 0 for name in entry["files"].values())


@pytest.mark.parametrize(
    ("name", "column", "mart"),
    [
        ("customer_activity", "interactions", "customer_activity_by_region_tier"),
        ("purchase_trends", "revenue", "purchase_trend_by_category"),
        ("age_interaction", "interactions", "interaction_by_age"),
    ],
)
def test_what_is_drawn_adds_up_to_the_mart(
    drawn: Path,
    stack_settings: Settings,
    name: str,
    column: str,
    mart: str,
) -> None:
    table = pd.read_csv(drawn / f"{name}.csv")
    total = _total(stack_settings, f"sum({column})", mart)
    assert total > 0
    assert table[column].sum() == pytest.approx(total, abs=0.01)


def test_the_trend_adds_up_to_the_mart(drawn: Path, stack_settings: Settings) -> None:
    table = pd.read_csv(drawn / "interaction_trend.csv")
    total = _total(stack_settings, "sum(interactions)", "interaction_trend_daily")
    every = table["interaction_type"] == "all types"
    assert table.loc[every, "interactions"].sum() == total
    assert table.loc[~every, "interactions"].sum() == total


def test_the_first_products_are_the_marts(
    drawn: Path, stack_settings: Settings
) -> None:
    table = pd.read_csv(drawn / "top_products.csv")
    with Reader(stack_settings) as reader:
        mart = reader.rows(
            "select category, region, product_id, revenue, product_rank from "
            f"{schema_prefix()}marts.top_products_by_category_region"
        )
    first = table[table["product_rank"] == 1]
    other = first["region"].str.endswith("other regions")
    named = set(first.loc[~other, "region"])
    rest = mart[~mart["region"].isin(named)].astype({"revenue": float})
    sums = rest.groupby(["category", "product_id"])["revenue"].sum()
    folded: list[Any] = list(first[other].itertuples())
    for row in folded:
        assert row.revenue == pytest.approx(sums[row.category].max())
        assert row.revenue == pytest.approx(sums[row.category, row.product_id])
    mart = mart[mart["product_rank"] == 1]
    drawn_first = first[~other]
    assert len(drawn_first) > 5
    both = drawn_first.merge(mart, on=["category", "region"], suffixes=("", "_mart"))
    assert len(both) == len(drawn_first)
    assert both["product_id"].tolist() == both["product_id_mart"].tolist()
    known = both["revenue_mart"].astype(float)
    assert both["revenue"].to_numpy() == pytest.approx(known.to_numpy())


def test_twice_gives_the_same_bytes(
    drawn: Path, stack_settings: Settings, tmp_path: Path
) -> None:
    charts.draw_all(stack_settings, tmp_path)
    for path in sorted(drawn.iterdir()):
        assert (tmp_path / path.name).read_bytes() == path.read_bytes(), path.name


def test_the_site_is_built(drawn: Path, stack_settings: Settings) -> None:
    out = drawn.parent / "site of the stack" / "site"
    index = site.build(stack_settings, out)
    page = index.read_text(encoding="utf-8")
    assert page.count("<picture>") == 5
    words = (out / "status.html").read_text(encoding="utf-8")
    assert "core.fct_interactions" in words
    assert "Nothing is built yet" not in words


def test_the_docs_page_opens_at_its_links(
    drawn: Path,
    stack_settings: Settings,
    browser: Browser,
    tmp_path: Path,
) -> None:
    """dbt's real page: views, columns and lineage, and not one request or complaint."""
    target = stack_settings.home.parent / "target"
    index = site.write(tmp_path / "site", drawn, viz_pages.nothing_seen(), target)
    page = browser.new_page()
    complaints: list[str] = []
    asked: list[str] = []
    page.on("console", lambda said: complaints.append(said.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    docs = (index.parent / site.DOCS).as_uri()
    for place, words in {
        "#!/model/model.ecom.stg_customers": ("stg_customers", "loyalty_tier", "view"),
        "#!/model/model.ecom.interaction_by_age": ("age_band", "Depends On"),
        artifacts.exposures(target)["top_products"]: (
            "top_products_by_category_region",
        ),
    }.items():
        page.goto(docs + place)
        for word in words:
            page.get_by_text(word).locator("visible=true").first.wait_for()
    assert complaints == []
    assert {url.split("#")[0] for url in asked if not url.startswith("data:")} == {docs}
    page.close()
    assert all(relation.columns for relation in artifacts.dictionary(target))


def test_counts_are_what_readers_see(stack_settings: Settings) -> None:
    with Reader(stack_settings) as reader:
        seen = status.read(reader, schema_prefix())
    assert len(seen.counts) == 11
    facts = dict(seen.counts)["core.fct_interactions"]
    mart = "customer_activity_by_region_tier"
    assert facts == _total(stack_settings, "sum(interactions)", mart)
    assert seen.newest_event


def test_too_many_rows_are_refused(stack_settings: Settings) -> None:
    with Reader(stack_settings) as reader:
        assert len(reader.rows("select id from range(5)", limit=5)) == 5
        with pytest.raises(DataError, match="more than 5 rows"):
            reader.rows("select id from range(6)", limit=5)


def test_marts_that_are_not_there_are_said(
    stack_settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PREFIX_VARIABLE, "nobody_built_this_")
    with pytest.raises(MissingRelationError) as caught:
        charts.draw_all(stack_settings, tmp_path)
    assert caught.value.exit_code == 1
    assert "ecom run" in caught.value.fix
