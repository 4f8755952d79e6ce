"""Top products by category and region: what sells best, and is it the same all over."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from viz import layout, style, text
from viz.chart import Chart, Shaped, empty
from viz.layout import Sheet

NAME = "top_products"
TITLE = "Top products by category and region"
MART = "top_products_by_category_region"
COLUMNS = [
    "category",
    "region",
    "product_rank",
    "product_id",
    "product_name",
    "units",
    "revenue",
    "interactions",
    "share_of_pair",
    "regions_led",
]
_NAMED = 5
"""Regions that keep their names where there are others, as in the SQL."""
_ROW, _HEAD, _GAP = 0.27, 0.27, 0.16


def shape(frame: pd.DataFrame) -> Shaped:
    """Rows of the query to the best three of each category and region shown.

    Args:
        frame: the columns of `analyses/charts/top_products.sql`.

    Returns:
        `COLUMNS`; the picture shows the rows of rank 1. `share_of_pair` is the
        product's share of its category in its region; `regions_led` in how many
        of the rows shown of its category it is first. `extra`: `categories`
        (order), `other` (the name of the folded regions, or None), `metric`
        (`revenue`, or `interactions` where nothing is sold yet).
    """
    if frame.empty:
        return empty(TITLE, MART, COLUMNS)
    rows = frame.sort_values(
        ["category_rank", "region_rank", "product_rank"], ignore_index=True
    )
    metric = "revenue" if text.numeric(rows["total_revenue"]).iloc[0] else (
        "interactions"
    )  # fmt: skip
    folded = rows["is_other_region"].astype(bool)
    totals = {name: int(rows[name].iloc[0]) for name in ("categories", "regions")}
    other = f"{totals['regions'] - _NAMED} other regions" if folded.any() else None
    table = pd.DataFrame(
        {
            "category": rows["category"].map(text.clean),
            "region": rows["region"].map(text.clean).mask(folded, other),
            "product_rank": rows["product_rank"].astype(int),
            "product_id": rows["product_id"],
            "product_name": rows["product_name"].map(text.clean),
        }
    )
    for name in ("units", "revenue", "interactions"):
        table[name] = text.numeric(rows[name])
    whole = text.numeric(rows[f"pair_{metric}"])
    table["share_of_pair"] = table[metric] / whole.where(whole > 0)
    table["regions_led"] = _regions_led(table)
    best = table[table["product_rank"] == 1]
    covered = _covered(frame.drop_duplicates(["category", "region_rank"]), metric)
    return Shaped(
        table=table,
        finding=_finding(best, metric, other),
        note=_note(table["category"].nunique(), totals, other, covered, metric),
        alt=_alt(best, metric),
        extra={
            "categories": list(dict.fromkeys(table["category"])),
            "other": other,
            "metric": metric,
        },
    )


def _regions_led(table: pd.DataFrame) -> pd.Series[Any]:
    """In how many of the rows of its category each product is first."""
    first = table["product_rank"].eq(1).astype(int)
    return first.groupby([table["category"], table["product_id"]]).transform("sum")


def _covered(pairs: pd.DataFrame, metric: str) -> float:
    total = float(text.numeric(pairs[f"total_{metric}"]).iloc[0])
    return float(text.numeric(pairs[f"pair_{metric}"]).sum()) / total if total else 1.0


def _finding(best: pd.DataFrame, metric: str, other: str | None) -> str:
    if best[metric].sum() == 0:
        return "Nothing is sold or looked at yet"
    named = best[~best["region"].isin(["unknown", other])]
    pool = named if len(named) else best
    top = pool.iloc[int(pool[metric].to_numpy().argmax())]
    name = text.short(top["product_name"], 42)
    what = "sells" if metric == "revenue" else "draws"
    first = (
        f"{name} {what} most, {text.number(top[metric])} {_unit(metric)} in "
        f"{text.short(top['region'], 26)}"
    )
    rows = best.groupby("category")["region"].size()
    several = rows[rows > 1]
    if several.empty:
        return first
    led = best.groupby("category")["regions_led"].max()
    everywhere = int((led[several.index] == several).sum())
    if everywhere == len(several):
        if everywhere == 1:
            return f"{first}; it leads in every region"
        return f"{first}; one product leads everywhere in all {everywhere} categories"
    if everywhere == 0:
        return f"{first}; in no category does one product lead everywhere"
    return (
        f"{first}; one product leads everywhere in {everywhere} of "
        f"{text.count(len(several), 'category', 'categories')}"
    )


def _unit(metric: str) -> str:
    return "revenue" if metric == "revenue" else "interactions"


def _note(
    shown: int, totals: dict[str, int], other: str | None, covered: float, metric: str
) -> str:
    reach = text.count(shown, "category", "categories")
    if shown < totals["categories"]:
        reach = f"the top {shown} of {totals['categories']} categories"
    among = text.count(totals["regions"], "region")
    if other:
        among = f"the top {_NAMED} of {totals['regions']} regions and the rest in one"
    reach = f"Shown: {reach}, {among}; {text.percent(covered)} of {_unit(metric)}."
    money = (
        " Revenue in the shop's currency, without cancelled and returned orders."
        if metric == "revenue"
        else " No sales yet: products are ranked by interactions."
    )
    return (
        f"{reach}{money} Per cent: share of the category in that region. "
        f"Source: marts.{MART}"
    )


def _alt(best: pd.DataFrame, metric: str) -> str:
    parts = [
        f"{category}: "
        + ", ".join(
            f"{text.short(row.product_name, 60)} in {text.short(row.region, 40)} "
            f"({text.number(float(getattr(row, metric)))})"
            for row in group.itertuples()
        )
        for category, group in best.groupby("category", sort=False)
    ]
    return (
        f"Bars of the first product's {_unit(metric)} in each region, a panel a "
        f"category. {'; '.join(parts)}."
    )


def draw(shaped: Shaped) -> Sheet:
    """A panel a category, a bar a region: the best product and what it takes."""
    if shaped.is_empty:
        return layout.empty_page(TITLE, shaped.note)
    best = shaped.table[shaped.table["product_rank"] == 1]
    groups = [(c, best[best["category"] == c]) for c in shaped.extra["categories"]]
    metric = shaped.extra["metric"]
    several = best["region"].nunique() > 1
    above = 0.3 if several else 0.05
    height = above + sum(_HEAD + _ROW * len(rows) + _GAP for _, rows in groups)
    with style.applied():
        page = layout.Page(TITLE, shaped.finding, shaped.note, height)
        if several:
            _legend(page)
        top = above
        names = _names_width(best["region"])
        limit = _limit(best, metric, layout.INNER - names)
        for category, rows in groups:
            page.label(
                style.fit(style.drawable(category), layout.INNER, 11, "bold"),
                0, top + 0.2, fontsize=11, fontweight="bold",
            )  # fmt: skip
            body = _ROW * len(rows)
            axes = page.axes(names, top + _HEAD, layout.INNER - names, body)
            axes.set_label(category)
            _panel(axes, rows, metric, limit)
            top += _HEAD + body + _GAP
        return page.figure


def _names_width(regions: pd.Series[Any]) -> float:
    widest = max(style.measure(name, style.SMALL) for name in set(regions))
    return min(widest, 1.3) + 0.12


def _limit(best: pd.DataFrame, metric: str, width: float) -> float:
    """The value at the right edge: bars as long as the words behind them allow."""
    most = max(float(best[metric].max()), 1.0)
    limit = most * 1.6
    for row in best.itertuples():
        value = float(getattr(row, metric))
        words = min(style.measure(_words(row, value, 99), style.SMALL), 0.62 * width)
        limit = max(limit, value * width / (width - words - 0.1))
    return min(limit, most * 3)


def _legend(page: layout.Page) -> None:
    left = 0.0
    for color, words in (
        (style.ACCENT, "leads in other regions too"),
        (style.PALE, "leads here alone"),
    ):
        page.label("■", left, 0.13, color=color)
        page.label(words, left + 0.17, 0.13, fontsize=style.SMALL, color=style.MUTED)
        left += 0.17 + style.measure(words, style.SMALL) + 0.2


def _panel(axes: Axes, rows: pd.DataFrame, metric: str, limit: float) -> None:
    places = np.arange(len(rows))
    wide = (rows["regions_led"] > 1) | (len(rows) == 1)
    colors = [style.ACCENT if leads else style.PALE for leads in wide]
    axes.barh(places, rows[metric].to_numpy(), height=0.74, color=colors)
    width = axes.get_position().width * style.WIDTH
    room = layout.INNER - width - 0.1
    labels = [
        style.fit(style.drawable(name), room, style.SMALL) for name in rows["region"]
    ]
    axes.set_yticks(places, labels, fontsize=style.SMALL, color=style.MUTED)
    axes.set_xticks([])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlim(0, limit)
    layout.bare(axes)
    for place, row in zip(places, rows.itertuples(), strict=True):
        value = float(getattr(row, metric))
        room = width * (1 - value / limit) - 0.08
        words = _words(row, value, room)
        layout.behind(axes, words, value, float(place), style.SMALL)


def _words(row: Any, value: float, room: float) -> str:
    share = row.share_of_pair
    figures = f"  {text.number(value)}"
    if pd.notna(share):
        figures += f", {text.percent(share)}"
    left = room - style.measure(figures, style.SMALL)
    return style.fit(style.drawable(row.product_name), left, style.SMALL) + figures


CHART = Chart(NAME, TITLE, MART, shape, draw)
