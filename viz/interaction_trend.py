"""Interaction trend over time: the total, and each type on a scale of its own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.dates import (
    AutoDateLocator,
    ConciseDateFormatter,
    DateFormatter,
    date2num,
)
from matplotlib.figure import Figure
from matplotlib.ticker import Formatter, FuncFormatter, MaxNLocator

from viz import style, text
from viz.chart import Chart, Shaped, empty

NAME = "interaction_trend"
TITLE = "Interaction trend over time"
MART = "interaction_trend_daily"
COLUMNS = [
    "period",
    "interaction_type",
    "days",
    "interactions",
    "interactions_per_day",
    "trend_per_day",
]
TYPES = ["view", "search", "click", "add_to_cart", "wishlist", "purchase", "review"]
ALL = "all types"
_WINDOW = 28
"""Days at each end that the finding compares."""
_DAYS_NAMED = 62
"""Days of history up to which ticks are days, such as `30 Jan`."""
_TOTAL, _PANEL, _GAP = 1.9, 0.42, 0.12


def shape(frame: pd.DataFrame) -> Shaped:
    """Rows of the query to one row a period and type, and `all types`.

    Args:
        frame: the columns of `analyses/charts/interaction_trend.sql`.

    Returns:
        `COLUMNS`: `interactions_per_day` is the period's own mean, `trend_per_day`
        the line drawn (the 7-day average where a period is a day, else the mean).
        Periods without rows count zero. `extra`: `grain`, `types`, `first`, `last`.
    """
    if frame.empty:
        return empty(TITLE, MART, COLUMNS)
    grain = str(frame["grain"].iloc[0])
    rows = pd.DataFrame(
        {
            "period": pd.to_datetime(frame["period"].astype(str)),
            "interaction_type": frame["interaction_type"].map(text.clean),
            "days": text.numeric(frame["days"]),
            "interactions": text.numeric(frame["interactions"]),
            "trend": text.numeric(frame["interactions_7d_avg"]),
        }
    )
    types = [name for name in TYPES if name in set(rows["interaction_type"])]
    types += sorted(set(rows["interaction_type"]) - set(types))
    table = _table(rows, types, grain)
    first = text.as_date(min(frame["first_day"].map(text.as_date)))
    last = text.as_date(max(frame["last_day"].map(text.as_date)))
    ends = _ends(table[table["interaction_type"] == ALL])
    extra = {"grain": grain, "types": types, "first": first, "last": last}
    return Shaped(
        table=table,
        finding=_finding(table, ends, extra),
        note=_note(grain, ends, extra),
        alt=_alt(table, extra),
        extra={**extra, "ends": ends},
    )


def _table(rows: pd.DataFrame, types: list[str], grain: str) -> pd.DataFrame:
    total = rows.groupby("period", as_index=False).agg(
        days=("days", "max"), interactions=("interactions", "sum"),
        trend=("trend", "sum"),
    )  # fmt: skip
    total["interaction_type"] = ALL
    table = pd.concat([total, rows], ignore_index=True)
    wide = table.set_index(["interaction_type", "period"])
    code = {"day": "D", "week": "W-MON", "month": "MS", "year": "YS"}[grain]
    periods = pd.date_range(table["period"].min(), table["period"].max(), freq=code)
    places = pd.MultiIndex.from_product(
        [[ALL, *types], periods], names=["interaction_type", "period"]
    )
    full = wide.reindex(places).reset_index()
    full["days"] = full["days"].fillna(1)
    full[["interactions", "trend"]] = full[["interactions", "trend"]].fillna(0)
    full["interactions_per_day"] = full["interactions"] / full["days"].clip(lower=1)
    daily = grain == "day"
    full["trend_per_day"] = full["trend"] if daily else full["interactions_per_day"]
    return full[COLUMNS]


def _ends(total: pd.DataFrame) -> tuple[float, float, int] | None:
    """Means a day at both ends of a series and how many days each end takes.

    None where the series is too short for two ends that do not touch.
    """
    days = total["days"].to_numpy()
    made = total["interactions"].to_numpy()
    window = min(_WINDOW, int(days.sum()) // 2)
    if window < 1 or len(total) < 2:  # noqa: PLR2004
        return None
    head = int(np.searchsorted(days.cumsum(), window)) + 1
    tail = int(np.searchsorted(days[::-1].cumsum(), window)) + 1
    if head + tail > len(total):
        return None
    before = made[:head].sum() / days[:head].sum()
    after = made[-tail:].sum() / days[-tail:].sum()
    return float(before), float(after), int(min(days[:head].sum(), days[-tail:].sum()))


def _finding(
    table: pd.DataFrame, ends: tuple[float, float, int] | None, extra: dict[str, Any]
) -> str:
    total = table[table["interaction_type"] == ALL]
    made = total["interactions"].sum()
    if made == 0:
        return "No interactions in the whole period"
    sums = table.groupby("interaction_type")["interactions"].sum()
    top = str(sums.drop(ALL).idxmax())
    share = f"{text.percent(sums[top] / made)} of them {_plural(top)}"
    if ends is None:
        when = text.span(text.day(extra["first"]), text.day(extra["last"]))
        return f"{text.number(made)} interactions, {when}; {share}"
    before, after, _ = ends
    said = text.change(before, after)
    figures = f"from {text.number(before)} to {text.number(after)} a day"
    if said == "±0%":
        return f"Interactions held at {text.number(after)} a day; {share}"
    if said == "new":
        return f"Interactions began, now {text.number(after)} a day; {share}"
    if said.startswith("×"):
        verb = f"grew {said[1:]}-fold"
    else:
        verb = f"rose {said[1:]}" if said.startswith("+") else f"fell {said[1:]}"
    return f"Interactions {verb}, {figures}; {share}"


def _plural(kind: str) -> str:
    known = {
        "search": "searches",
        "add_to_cart": "additions to a cart",
        "wishlist": "wishlist entries",
    }
    return known.get(kind, f"{text.spaced(kind)}s")


def _note(
    grain: str, ends: tuple[float, float, int] | None, extra: dict[str, Any]
) -> str:
    single = ends is None and extra["first"] == extra["last"]
    line = (
        ""
        if single
        else (
            " Line: average of the 7 days ending that day; faint: the day itself."
            if grain == "day"
            else f" Line: average a day in each {grain}."
        )
    )
    compared = (
        f" Changes compare the first and the last {text.count(ends[2], 'day')}."
        if ends
        else ""
    )
    reach = text.span(text.day(extra["first"]), text.day(extra["last"]))
    return f"{reach} (UTC).{line}{compared} Source: marts.{MART}"


def _highest(rows: pd.DataFrame) -> pd.Series[Any]:
    return rows.iloc[int(rows["trend_per_day"].to_numpy().argmax())]


def _alt(table: pd.DataFrame, extra: dict[str, Any]) -> str:
    total = table[table["interaction_type"] == ALL]
    peak = _highest(total)
    sums = table.groupby("interaction_type")["interactions"].sum()
    parts = ", ".join(
        f"{text.spaced(kind)} {text.number(sums[kind])}" for kind in extra["types"]
    )
    return (
        f"A line of interactions a day from {text.day(extra['first'])} to "
        f"{text.day(extra['last'])}, highest at {text.number(peak['trend_per_day'])} "
        f"around {text.day(peak['period'])}, above a small line for each type. "
        f"Totals: {parts}."
    )


def draw(shaped: Shaped) -> Figure:
    """The total as one large line, each type as a small one with its change."""
    if shaped.is_empty:
        return style.empty_page(TITLE, shaped.note)
    table, types = shaped.table, shaped.extra["types"]
    if table["period"].nunique() == 1:
        return _draw_one(shaped)
    with style.applied():
        height = 0.3 + _TOTAL + 0.68 + len(types) * (_PANEL + _GAP)
        page = style.Page(TITLE, shaped.finding, shaped.note, height)
        left, right = 0.5, 0.12
        page.label("Interactions a day, all types", 0, 0.14, fontweight="bold")
        total = page.axes(left, 0.3, style.INNER - left - right, _TOTAL)
        _total(total, table[table["interaction_type"] == ALL], shaped.extra["grain"])
        top = 0.3 + _TOTAL + 0.5
        page.label("By type, each on its own scale", 0, top, fontweight="bold")
        page.label("a day, latest", style.INNER, top, ha="right",
                   fontsize=style.SMALL, color=style.MUTED)  # fmt: skip
        for index, kind in enumerate(types):
            rows = table[table["interaction_type"] == kind]
            y = top + 0.14 + index * (_PANEL + _GAP)
            _small(page, rows, kind, y)
        return page.figure


def _total(axes: Axes, rows: pd.DataFrame, grain: str) -> None:
    axes.set_label(ALL)
    when, trend = rows["period"], rows["trend_per_day"]
    if grain == "day":
        axes.plot(when, rows["interactions_per_day"], color=style.PALE, linewidth=0.6,
                  label="day")  # fmt: skip
    axes.plot(when, trend, color=style.ACCENT, linewidth=2, label="trend")
    axes.set_ylim(0, max(rows["interactions_per_day"].max(), trend.max(), 1) * 1.16)
    axes.set_xlim(when.iloc[0], when.iloc[-1])
    axes.grid(axis="y")
    axes.set_axisbelow(True)
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: text.number(v)))
    locator = AutoDateLocator(minticks=2, maxticks=6)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    if (when.iloc[-1] - when.iloc[0]).days <= _DAYS_NAMED:
        formatter: Formatter = DateFormatter("%-d %b")  # type: ignore[no-untyped-call]
    else:
        formatter = ConciseDateFormatter(  # type: ignore[no-untyped-call]
            locator, show_offset=False
        )
    axes.xaxis.set_major_formatter(formatter)
    _peak(axes, rows)


def _peak(axes: Axes, rows: pd.DataFrame) -> None:
    best = _highest(rows)
    value = float(best["trend_per_day"])
    if value == 0:
        return
    low, high = axes.get_xlim()
    when = float(date2num(best["period"]))  # type: ignore[no-untyped-call]
    place = (when - low) / max(high - low, 1e-9)
    side = "left" if place < 0.2 else "right" if place > 0.8 else "center"  # noqa: PLR2004
    axes.plot([best["period"]], [value], "o", color=style.ACCENT, markersize=4,
              clip_on=False)  # fmt: skip
    axes.annotate(
        f"peak {text.number(value)}, {text.day(best['period'])}",
        (best["period"], axes.get_ylim()[1]), (0, -2), textcoords="offset points",
        ha=side, va="top", fontsize=style.SMALL, color=style.INK,
    )  # fmt: skip


def _small(page: style.Page, rows: pd.DataFrame, kind: str, top: float) -> None:
    names, figures = 0.95, 1.22
    axes = page.axes(names, top, style.INNER - names - figures, _PANEL)
    axes.set_label(kind)
    color = style.WARM if kind == "purchase" else style.ACCENT
    axes.fill_between(
        rows["period"], rows["trend_per_day"], color=color, alpha=0.14, linewidth=0
    )
    axes.plot(rows["period"], rows["trend_per_day"], color=color, linewidth=1.3)
    axes.set_ylim(0, max(rows["trend_per_day"].max(), 1e-9) * 1.05)
    axes.set_xlim(rows["period"].iloc[0], rows["period"].iloc[-1])
    axes.set_xticks([])
    axes.set_yticks([])
    style.bare(axes)
    name = style.fit(style.drawable(text.spaced(kind)), names - 0.08, style.LABEL)
    page.label(name, 0, top + _PANEL * 0.68)
    ends = _ends(rows)
    latest = ends[1] if ends else float(rows["interactions_per_day"].mean())
    said = f"{text.number(latest)}"
    if ends:
        said += f"  {text.change(ends[0], ends[1])}"
    page.label(said, style.INNER, top + _PANEL * 0.68, ha="right")


def _draw_one(shaped: Shaped) -> Figure:
    """One period alone has no trend: bars of its types."""
    rows = shaped.table[shaped.table["interaction_type"] != ALL]
    height = 0.3 * len(rows) + 0.3
    with style.applied():
        page = style.Page(TITLE, shaped.finding, shaped.note, height)
        page.label("Interactions by type", 0, 0.14, fontweight="bold")
        axes = page.axes(1.0, 0.26, style.INNER - 1.0, height - 0.26)
        axes.set_label(ALL)
        places = np.arange(len(rows))
        axes.barh(places, rows["interactions"], height=0.72, color=style.ACCENT)
        names = [style.drawable(text.spaced(kind)) for kind in rows["interaction_type"]]
        axes.set_yticks(places, names, fontsize=style.LABEL, color=style.INK)
        axes.set_xticks([])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_xlim(0, max(rows["interactions"].max(), 1) * 1.2)
        style.bare(axes)
        for place, value in zip(places, rows["interactions"], strict=True):
            axes.annotate(
                text.number(value), (value, place), (4, 0),
                textcoords="offset points", va="center", fontsize=style.LABEL,
            )  # fmt: skip
        return page.figure


CHART = Chart(NAME, TITLE, MART, shape, draw)
