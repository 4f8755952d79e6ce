"""Historical purchase trends by category: each category against all the others."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from viz import style, text
from viz.chart import Chart, Shaped, empty

NAME = "purchase_trends"
TITLE = "Historical purchase trends by category"
MART = "purchase_trend_by_category"
COLUMNS = ["purchase_month", "category", "orders", "units", "revenue"]
_YEAR = 12
_ENOUGH = 0.01
"""A category with a smaller share of revenue takes no part in the finding."""
_PANEL, _HEAD, _COLUMNS = 1.02, 0.52, 2


def shape(frame: pd.DataFrame) -> Shaped:
    """Rows of the query to one row a month and category, zero where none was sold.

    Args:
        frame: the columns of `analyses/charts/purchase_trends.sql`.

    Returns:
        `COLUMNS`; categories by falling revenue with the folded ones last.
        `extra`: `categories` (order), `folded` (how many the last stands for),
        `complete` (months that take part in comparisons: all but the last, which
        may still be under way), `shares` and `changes` by category.
    """
    if frame.empty:
        return empty(TITLE, MART, COLUMNS)
    other = frame["is_other"].astype(bool)
    folded = int(frame["categories"].iloc[0]) - int(frame.loc[~other, "category"]
                                                    .nunique(dropna=False))  # fmt: skip
    last = f"{folded} other categories"
    rows = pd.DataFrame(
        {
            "purchase_month": pd.to_datetime(frame["purchase_month"].astype(str)),
            "category": frame["category"].map(text.clean).mask(other, last),
        }
    )
    for name in ("orders", "units", "revenue"):
        rows[name] = text.numeric(frame[name])
    rows = rows.groupby(["purchase_month", "category"], as_index=False).sum()
    sums = rows.groupby("category")["revenue"].sum()
    order = sorted(sums.index, key=lambda c: (folded > 0 and c == last, -sums[c], c))
    table = _filled(rows, order)
    wide = table.pivot(index="purchase_month", columns="category", values="revenue")
    changes = {category: _change(wide[category]) for category in order}
    total = _change(wide.sum(axis=1))
    extra = {
        "categories": order,
        "folded": folded,
        "shares": (sums / sums.sum() if sums.sum() else sums).to_dict(),
        "changes": changes,
        "total": total,
        "compared": _compared(len(wide)),
        "months": len(wide),
    }
    return Shaped(
        table=table,
        finding=_finding(sums, order, extra),
        note=_note(wide, extra),
        alt=_alt(sums, order, extra),
        extra=extra,
    )


def _filled(rows: pd.DataFrame, order: list[str]) -> pd.DataFrame:
    months = pd.date_range(
        rows["purchase_month"].min(), rows["purchase_month"].max(), freq="MS"
    )
    places = pd.MultiIndex.from_product(
        [order, months], names=["category", "purchase_month"]
    )
    full = rows.set_index(["category", "purchase_month"]).reindex(places, fill_value=0)
    return full.reset_index()[COLUMNS]


def _compared(months: int) -> int:
    """How many complete months each side of a comparison has; 0 where too few."""
    complete = months - 1
    if complete >= 2 * _YEAR:
        return _YEAR
    # Below two years: the same months of the year before, where there are any.
    return max(0, complete - _YEAR) if complete > _YEAR else 0


def _change(revenue: pd.Series[float]) -> tuple[float, float] | None:
    """Revenue of the compared months a year ago and of late."""
    size = _compared(len(revenue))
    if size == 0:
        return None
    complete = revenue.sort_index().to_numpy()[:-1]
    end = len(complete)
    before = complete[end - size - _YEAR : end - _YEAR].sum()
    return float(before), float(complete[end - size :].sum())


def _finding(sums: pd.Series[float], order: list[str], extra: dict[str, Any]) -> str:
    whole = float(sums.sum())
    if whole == 0:
        return "No revenue in any category yet"
    top = order[0]
    name = text.short(top, 36)
    first = (
        f"{name} brings {text.percent(sums[top] / whole)} of {text.number(whole)} "
        "revenue"
        if len(order) > 1
        else f"{name} brings all {text.number(whole)} revenue"
    )
    named = order[: len(order) - bool(extra["folded"])]
    pairs = {category: extra["changes"][category] for category in named}
    movers = {
        category: pair[1] / pair[0]
        for category, pair in pairs.items()
        if pair and pair[0] > 0 and sums[category] >= _ENOUGH * whole
    }
    if not extra["total"] or extra["total"][0] <= 0:
        return first
    sales = f"sales {_moved(*extra['total'])} on a year before"
    if len(movers) < 2:  # noqa: PLR2004
        return f"{first}; {sales}"
    best = max(movers, key=lambda c: (movers[c], c))
    said = text.change(*extra["changes"][best])
    did = "grew most" if movers[best] >= 1 else "fell least"
    if best == top:
        return f"{first} and {did} ({said}); {sales}"
    return f"{first}; {sales}, {text.short(best, 30)} {did} ({said})"


def _moved(before: float, after: float) -> str:
    said = text.change(before, after)
    if said == "±0%":
        return "are level"
    if said.startswith("×"):
        return f"are {said[1:]} times as high"
    return f"are up {said[1:]}" if said.startswith("+") else f"are down {said[1:]}"


def _note(wide: pd.DataFrame, extra: dict[str, Any]) -> str:
    first, last = wide.index[0], wide.index[-1]
    parts = [f"{text.span(text.month(first), text.month(last))} (UTC)."]
    parts.append(
        "Revenue a month in the shop's currency, without cancelled and returned orders."
    )
    if len(wide) > 1:
        parts.append(f"{text.month(last)} may be incomplete: dotted, not compared.")
    if extra["compared"]:
        size = extra["compared"]
        many = "month" if size == 1 else f"{size} months"
        parts.append(f"Changes: the {many} before it against a year earlier.")
    if extra["folded"]:
        parts.append(
            f"The smallest categories, {extra['folded']} in all, share a panel."
        )
    return " ".join([*parts, f"Source: marts.{MART}"])


def _alt(sums: pd.Series[float], order: list[str], extra: dict[str, Any]) -> str:
    parts = []
    for category in order:
        said = f"{category} {text.number(sums[category])}"
        pair = extra["changes"][category]
        parts.append(f"{said} ({text.change(*pair)})" if pair else said)
    return (
        f"Small panels of monthly revenue, one a category, over "
        f"{text.count(extra['months'], 'month')}; in all: {'; '.join(parts)}."
    )


def draw(shaped: Shaped) -> Figure:
    """A panel a category: its own line strong, all the others faint, one scale."""
    if shaped.is_empty:
        return style.empty_page(TITLE, shaped.note)
    order = shaped.extra["categories"]
    columns = min(_COLUMNS, len(order))
    lines = -(-len(order) // columns)
    with style.applied():
        height = lines * (_PANEL + _HEAD) + 0.28
        page = style.Page(TITLE, shaped.finding, shaped.note, height)
        wide = shaped.table.pivot(
            index="purchase_month", columns="category", values="revenue"
        )[order]
        left, gap = 0.52, 0.22
        width = (style.INNER - left - gap * (columns - 1)) / columns
        for index, category in enumerate(order):
            row, column = divmod(index, columns)
            x = left + column * (width + gap)
            y = row * (_PANEL + _HEAD)
            # The first column's heads begin above its tick labels.
            start, room = (x, width) if column else (0.0, width + left)
            _head(page, shaped, category, (start, y), room)
            axes = page.axes(x, y + _HEAD - 0.06, width, _PANEL)
            below = index + columns >= len(order)
            _panel(axes, wide, category, first=column == 0, below=below)
        return page.figure


def _head(
    page: style.Page,
    shaped: Shaped,
    category: str,
    place: tuple[float, float],
    width: float,
) -> None:
    x, y = place
    share = text.percent(shaped.extra["shares"][category])
    pair = shaped.extra["changes"][category]
    said = f"{share} of revenue"
    if pair:
        said += f", {text.change(*pair)}"
    name = style.fit(style.drawable(category), width, style.TITLE, "bold")
    page.label(name, x, y + 0.17, fontsize=style.TITLE, fontweight="bold")
    page.label(said, x, y + 0.35, fontsize=style.SMALL, color=style.MUTED)


def _panel(
    axes: Axes, wide: pd.DataFrame, category: str, *, first: bool, below: bool
) -> None:
    axes.set_label(category)
    for other in wide.columns:
        if other != category:
            axes.plot(wide.index, wide[other], color=style.PALE, linewidth=0.6)
    own = wide[category]
    if len(own) > 1:
        axes.plot(own.index[:-1], own.iloc[:-1], color=style.ACCENT, label="complete")
        axes.plot(own.index[-2:], own.iloc[-2:], color=style.ACCENT, label="last",
                  linestyle=(0, (1, 1.6)), solid_capstyle="butt")  # fmt: skip
        axes.set_xlim(own.index[0], own.index[-1])
    if len(own) <= 2:  # noqa: PLR2004
        axes.plot(own.index, own, "o", color=style.ACCENT, markersize=5, clip_on=False)
    axes.set_ylim(0, max(float(wide.to_numpy().max()), 1) * 1.06)
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.yaxis.set_major_locator(MaxNLocator(3))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: text.number(v)))
    axes.grid(axis="y", linewidth=0.5)
    axes.set_axisbelow(True)
    if not first:
        axes.tick_params(labelleft=False)
    ends = [own.index[0]] if len(own) == 1 else [own.index[0], own.index[-1]]
    axes.set_xticks(ends, [text.month(moment) for moment in ends])
    if not below:
        axes.tick_params(labelbottom=False)
    labels = axes.get_xticklabels()
    if len(labels) > 1:
        labels[0].set_horizontalalignment("left")
        labels[-1].set_horizontalalignment("right")


CHART = Chart(NAME, TITLE, MART, shape, draw)
