"""Historical purchase trends by category: the whole, and each on a scale of its own."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

from viz import layout, style, text
from viz.chart import Chart, Shaped, empty
from viz.layout import Sheet

NAME = "purchase_trends"
TITLE = "Historical purchase trends by category"
MART = "purchase_trend_by_category"
COLUMNS = ["purchase_month", "category", "orders", "units", "revenue"]
_YEAR = 12
_ENOUGH = 0.01
"""A category with a smaller share of revenue takes no part in the finding."""
_TOTAL, _PANEL, _HEAD, _COLUMNS = 1.5, 0.66, 0.56, 2
ALL = "all categories"


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
    known = [name for name in order if name != "unknown"] or order
    top = known[0]
    name = text.short(top, 36)
    among = " of the known categories" if top != order[0] else ""
    first = (
        f"{name} brings {text.percent(sums[top] / whole)} of {text.number(whole)} "
        f"revenue{', the most' + among if among else ''}"
        if len(order) > 1
        else f"{name} brings all {text.number(whole)} revenue"
    )
    named = order[: len(order) - bool(extra["folded"])]
    pairs = {category: extra["changes"][category] for category in named}
    movers = {
        category: pair[1] / pair[0]
        for category, pair in pairs.items()
        if pair
        and pair[0] > 0
        and category != "unknown"
        and sums[category] >= _ENOUGH * whole
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
        f"A line of monthly revenue above a small line for each category, over "
        f"{text.count(extra['months'], 'month')}; in all: {'; '.join(parts)}."
    )


def draw(shaped: Shaped) -> Sheet:
    """All categories as one large line, each as a small one on its own scale."""
    if shaped.is_empty:
        return layout.empty_page(TITLE, shaped.note)
    if shaped.extra["months"] == 1:
        return _draw_one(shaped)
    order = shaped.extra["categories"]
    wide = shaped.table.pivot(
        index="purchase_month", columns="category", values="revenue"
    )[order]
    columns = min(_COLUMNS, len(order))
    lines = -(-len(order) // columns) if len(order) > 1 else 0
    with style.applied():
        heads = 0.3 + _TOTAL + 0.5
        height = heads + lines * (_PANEL + _HEAD) + 0.24
        page = layout.Page(TITLE, shaped.finding, shaped.note, height)
        left, right = 0.52, 0.12
        page.label("Revenue a month, all categories", 0, 0.14, fontweight="bold")
        total = page.axes(left, 0.3, layout.INNER - left - right, _TOTAL)
        _total(total, wide.sum(axis=1))
        if lines:
            said = "Each category, on its own scale"
            page.label(said, 0, heads, fontweight="bold")
        width = (layout.INNER - 0.25 * (columns - 1)) / columns
        for index, category in enumerate(order if lines else []):
            row, column = divmod(index, columns)
            place = column * (width + 0.25), heads + 0.03 + row * (_PANEL + _HEAD)
            _small(page, shaped, wide[category], place, width)
        return page.figure


def _total(axes: Axes, revenue: pd.Series[float]) -> None:
    axes.set_label(ALL)
    when = revenue.index
    _lines(axes, revenue, 2)
    layout.value_axis(axes, float(revenue.max()))
    layout.time_axis(axes, when[0], when[-1])
    if revenue.max() > 0:
        best = pd.Timestamp(str(revenue.idxmax()))
        said = f"peak {text.number(revenue.max())}, {text.month(best)}"
        layout.peak(axes, best, float(revenue.max()), said)


def _lines(axes: Axes, revenue: pd.Series[float], width: float) -> None:
    """Whole months as a line, the last one, which may be under way, dotted."""
    ink: dict[str, Any] = {"color": style.ACCENT, "linewidth": width}
    axes.plot(revenue.index[:-1], revenue.iloc[:-1], label="complete", **ink)
    axes.plot(revenue.index[-2:], revenue.iloc[-2:], label="last",
              linestyle=(0, (1, 1.6)), solid_capstyle="butt", **ink)  # fmt: skip
    if len(revenue) == 2:  # noqa: PLR2004
        axes.plot(revenue.index, revenue, "o", markersize=4, clip_on=False, **ink)


def _small(
    page: layout.Page,
    shaped: Shaped,
    revenue: pd.Series[float],
    place: tuple[float, float],
    width: float,
) -> None:
    x, y = place
    category = str(revenue.name)
    pair = shaped.extra["changes"][category]
    said = f"{text.percent(shaped.extra['shares'][category])} of revenue"
    if pair:
        said += f", {text.change(*pair)}"
    name = style.fit(style.drawable(category), width, style.LABEL, "bold")
    page.label(name, x, y + 0.23, fontweight="bold")
    page.label(said, x, y + 0.4, fontsize=style.SMALL, color=style.MUTED)
    axes = page.axes(x + 0.5, y + _HEAD, width - 0.5, _PANEL)
    axes.set_label(category)
    most = float(revenue.max())
    axes.fill_between(revenue.index, revenue, color=style.ACCENT, alpha=0.14,
                      linewidth=0)  # fmt: skip
    _lines(axes, revenue, 1.3)
    axes.set_ylim(min(0.0, float(revenue.min())), max(most, 1e-9) * 1.05)
    axes.set_xlim(revenue.index[0], revenue.index[-1])
    axes.set_xticks([])
    axes.set_yticks([0, most] if most > 0 else [0])
    axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: text.number(v)))
    layout.bare(axes)


def _draw_one(shaped: Shaped) -> Sheet:
    """One month alone has no trend: bars of its categories."""
    order, shares = shaped.extra["categories"], shaped.extra["shares"]
    sums = shaped.table.groupby("category")["revenue"].sum()[order]
    height = 0.3 * len(order) + 0.3
    with style.applied():
        page = layout.Page(TITLE, shaped.finding, shaped.note, height)
        month = text.month(shaped.table["purchase_month"].iloc[0])
        page.label(f"Revenue in {month}", 0, 0.14, fontweight="bold")
        widest = max(style.measure(name, style.LABEL) for name in order)
        names = min(widest + 0.12, 1.8)
        axes = page.axes(names, 0.26, layout.INNER - names, height - 0.26)
        axes.set_label(ALL)
        fitted = [style.fit(style.drawable(n), names - 0.1, style.LABEL) for n in order]
        words = [f"{text.number(sums[n])}, {text.percent(shares[n])}" for n in order]
        layout.named_bars(axes, fitted, sums.to_numpy(), words, style.ACCENT)
        return page.figure


CHART = Chart(NAME, TITLE, MART, shape, draw)
