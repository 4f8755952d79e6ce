"""Top products by category and region: what sells best, and is it the same all over."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from viz import style, text
from viz.chart import Chart, Shaped, empty

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
    "leads_category",
]
_ROW, _HEAD, _GAP = 0.27, 0.27, 0.16


def shape(frame: pd.DataFrame) -> Shaped:
    """Rows of the query to the best three of each category and region shown.

    Args:
        frame: the columns of `analyses/charts/top_products.sql`.

    Returns:
        `COLUMNS`; the picture shows the rows of rank 1. `share_of_pair` is the
        product's share of its category in its region; `leads_category` says
        whether it is the one that leads in most of the category's regions.
        `extra`: `categories` and `regions` (orders), `metric` (`revenue`, or
        `interactions` where nothing is sold yet).
    """
    if frame.empty:
        return empty(TITLE, MART, COLUMNS)
    rows = frame.sort_values(
        ["category_rank", "region_rank", "product_rank"], ignore_index=True
    )
    metric = "revenue" if text.numeric(rows["total_revenue"]).iloc[0] else (
        "interactions"
    )  # fmt: skip
    table = pd.DataFrame(
        {
            "category": rows["category"].map(text.clean),
            "region": rows["region"].map(text.clean),
            "product_rank": rows["product_rank"].astype(int),
            "product_id": rows["product_id"],
            "product_name": rows["product_name"].map(text.clean),
        }
    )
    for name in ("units", "revenue", "interactions"):
        table[name] = text.numeric(rows[name])
    whole = text.numeric(rows[f"pair_{metric}"])
    table["share_of_pair"] = table[metric] / whole.where(whole > 0)
    table["leads_category"] = _leads(table)
    best = table[table["product_rank"] == 1]
    totals = {name: int(rows[name].iloc[0]) for name in ("categories", "regions")}
    shown = {
        "categories": table["category"].nunique(),
        "regions": table["region"].nunique(),
    }
    pairs = frame.drop_duplicates(["category", "region"])
    covered = _covered(pairs, rows, metric)
    return Shaped(
        table=table,
        finding=_finding(best, metric),
        note=_note(shown, totals, covered, metric),
        alt=_alt(best, metric),
        extra={
            "categories": list(dict.fromkeys(table["category"])),
            "regions": list(
                dict.fromkeys(rows.sort_values("region_rank")["region"].map(text.clean))
            ),
            "metric": metric,
        },
    )


def _leads(table: pd.DataFrame) -> pd.Series[Any]:
    """Which rows are the product that is first in most regions of its category."""
    first = table[table["product_rank"] == 1]
    leaders: dict[str, Any] = {}
    for category, group in first.groupby("category", sort=False):
        wins = group["product_id"].value_counts()
        most = wins[wins == wins.max()].index
        # Of equals the one that the largest region buys; rows are in that order.
        leaders[str(category)] = next(p for p in group["product_id"] if p in most)
    return table["product_id"] == table["category"].map(leaders)


def _covered(pairs: pd.DataFrame, rows: pd.DataFrame, metric: str) -> float:
    total = text.numeric(rows[f"total_{metric}"]).iloc[0]
    return float(text.numeric(pairs[f"pair_{metric}"]).sum() / total) if total else 1.0


def _finding(best: pd.DataFrame, metric: str) -> str:
    if best[metric].sum() == 0:
        return "Nothing is sold or looked at yet"
    top = best.iloc[int(best[metric].to_numpy().argmax())]
    name = text.short(top["product_name"], 42)
    what = "takes" if metric == "revenue" else "draws"
    first = (
        f"{name} {what} most, {text.number(top[metric])} {_unit(metric)} in "
        f"{text.short(top['region'], 26)}"
    )
    many = best.groupby("category")["region"].nunique()
    several = many[many > 1]
    if several.empty:
        return first
    leads = best[best["leads_category"]].groupby("category")["region"].nunique()
    everywhere = int((leads[several.index] == several).sum())
    if everywhere == len(several):
        if everywhere == 1:
            return f"{first}; it leads in every region shown"
        return f"{first}; one product leads everywhere in all {everywhere} categories"
    if everywhere == 0:
        return f"{first}; in no category does one product lead everywhere"
    return (
        f"{first}; one product leads everywhere in {everywhere} of "
        f"{len(several)} categories"
    )


def _unit(metric: str) -> str:
    return "revenue" if metric == "revenue" else "interactions"


def _note(
    shown: dict[str, int], totals: dict[str, int], covered: float, metric: str
) -> str:
    parts = []
    for name, one in (("categories", "category"), ("regions", "region")):
        if shown[name] < totals[name]:
            parts.append(f"the top {shown[name]} of {totals[name]} {name}")
        else:
            parts.append(text.count(shown[name], one, name))
    reach = f"Shown: {text.joined(parts)}, {text.percent(covered)} of {_unit(metric)}."
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


def draw(shaped: Shaped) -> Figure:
    """A panel a category, a bar a region: the best product and what it takes."""
    if shaped.is_empty:
        return style.empty_page(TITLE, shaped.note)
    best = shaped.table[shaped.table["product_rank"] == 1]
    groups = [(c, best[best["category"] == c]) for c in shaped.extra["categories"]]
    metric = shaped.extra["metric"]
    height = 0.3 + sum(_HEAD + _ROW * len(rows) + _GAP for _, rows in groups)
    with style.applied():
        page = style.Page(TITLE, shaped.finding, shaped.note, height)
        _legend(page)
        top = 0.3
        names = _names_width(shaped.extra["regions"])
        limit = _limit(best, metric, style.INNER - names)
        for category, rows in groups:
            page.label(
                style.fit(style.drawable(category), style.INNER, 11, "bold"),
                0, top + 0.2, fontsize=11, fontweight="bold",
            )  # fmt: skip
            body = _ROW * len(rows)
            axes = page.axes(names, top + _HEAD, style.INNER - names, body)
            axes.set_label(category)
            _panel(axes, rows, metric, limit, names)
            top += _HEAD + body + _GAP
        return page.figure


def _names_width(regions: list[str]) -> float:
    widest = max(style.measure(name, style.SMALL) for name in regions)
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


def _legend(page: style.Page) -> None:
    left = 0.0
    for color, words in (
        (style.ACCENT, "leads most regions of its category"),
        (style.PALE, "another product leads here"),
    ):
        page.label("■", left, 0.13, color=color)
        page.label(words, left + 0.17, 0.13, fontsize=style.SMALL, color=style.MUTED)
        left += 0.17 + style.measure(words, style.SMALL) + 0.2


def _panel(
    axes: Axes, rows: pd.DataFrame, metric: str, limit: float, names: float
) -> None:
    places = np.arange(len(rows))
    colors = [style.ACCENT if leads else style.PALE for leads in rows["leads_category"]]
    axes.barh(places, rows[metric].to_numpy(), height=0.74, color=colors)
    labels = [
        style.fit(style.drawable(name), names - 0.1, style.SMALL)
        for name in rows["region"]
    ]
    axes.set_yticks(places, labels, fontsize=style.SMALL, color=style.MUTED)
    axes.set_xticks([])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlim(0, limit)
    style.bare(axes)
    width = style.INNER - names
    for place, row in zip(places, rows.itertuples(), strict=True):
        value = float(getattr(row, metric))
        room = width * (1 - value / limit) - 0.08
        axes.annotate(
            _words(row, value, room), (value, float(place)), (4, 0),
            textcoords="offset points", va="center", fontsize=style.SMALL,
            color=style.INK,
        )  # fmt: skip


def _words(row: Any, value: float, room: float) -> str:
    share = row.share_of_pair
    figures = f"  {text.number(value)}"
    if pd.notna(share):
        figures += f", {text.percent(share)}"
    left = room - style.measure(figures, style.SMALL)
    return style.fit(style.drawable(row.product_name), left, style.SMALL) + figures


CHART = Chart(NAME, TITLE, MART, shape, draw)
