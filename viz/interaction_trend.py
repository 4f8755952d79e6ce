"""Interaction trend over time: the total, and each type on a scale of its own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from viz import layout, style, text
from viz.chart import Chart, Shaped, empty
from viz.layout import Sheet

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
_STANDS_OUT = 1.25
"""How far above both ends a peak is to be in the finding."""
_TOTAL, _PANEL, _GAP, _CHANGE = 1.9, 0.42, 0.12, 0.68


def shape(frame: pd.DataFrame) -> Shaped:
    """Rows of the query to one row a period and type, and `all types`.

    Args:
        frame: the columns of `analyses/charts/interaction_trend.sql`.

    Returns:
        `COLUMNS`: `interactions_per_day` is the period's own mean, `trend_per_day`
        the line drawn (the 7-day average where a period is a day, else the mean).
        Periods without rows count zero. `extra`: `grain`, `types`, `first`, `last`,
        `open` (whether the last day may still be under way and is not compared),
        `ends`.
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
    extra: dict[str, Any] = {
        "grain": grain,
        "types": types,
        "first": first,
        "last": last,
    }
    extra["open"] = grain == "day" and table["period"].nunique() > 2  # noqa: PLR2004
    ends = _ends(_whole(table[table["interaction_type"] == ALL], extra["open"]))
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


def _whole(rows: pd.DataFrame, is_open: bool) -> pd.DataFrame:
    """The periods of one type without the last, where that may be under way."""
    return rows.iloc[:-1] if is_open else rows


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
    if ends is None:
        when = text.span(text.day(extra["first"]), text.day(extra["last"]))
        return f"{text.number(made)} interactions, {when}; {_share(table, made)}"
    before, after, _ = ends
    best = _highest(_whole(total, extra["open"]))
    also = _share(table, made)
    if best["trend_per_day"] > _STANDS_OUT * max(before, after):
        top = text.number(best["trend_per_day"])
        also = f"the peak was {top} in {text.month(best['period'])}"
    said = text.change(before, after)
    if said == "±0%":
        return f"Interactions held at {text.number(after)} a day; {also}"
    if said == "new":
        return f"Interactions began, now {text.number(after)} a day; {also}"
    if said.startswith("×"):
        verb = f"grew {said[1:]}-fold"
    else:
        verb = f"rose {said[1:]}" if said.startswith("+") else f"fell {said[1:]}"
    figures = f"from {text.number(before)} to {text.number(after)} a day"
    return f"Interactions {verb}, {figures}; {also}"


def _share(table: pd.DataFrame, made: float) -> str:
    sums = table.groupby("interaction_type")["interactions"].sum()
    top = str(sums.drop(ALL).idxmax())
    return f"{text.percent(sums[top] / made)} of them {_plural(top)}"


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
    unsure = (
        f" {text.day(extra['last'])} may be incomplete: faint only, not compared."
        if extra["open"]
        else ""
    )
    reach = text.span(text.day(extra["first"]), text.day(extra["last"]))
    return f"{reach} (UTC).{line}{compared}{unsure} Source: marts.{MART}"


def _highest(rows: pd.DataFrame) -> pd.Series[Any]:
    return rows.iloc[int(rows["trend_per_day"].to_numpy().argmax())]


def _alt(table: pd.DataFrame, extra: dict[str, Any]) -> str:
    total = table[table["interaction_type"] == ALL]
    peak = _highest(_whole(total, extra["open"]))
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


def draw(shaped: Shaped) -> Sheet:
    """The total as one large line, each type as a small one with its change."""
    if shaped.is_empty:
        return layout.empty_page(TITLE, shaped.note)
    table, types = shaped.table, shaped.extra["types"]
    if table["period"].nunique() == 1:
        return _draw_one(shaped)
    with style.applied():
        height = 0.3 + _TOTAL + 0.68 + len(types) * (_PANEL + _GAP)
        page = layout.Page(TITLE, shaped.finding, shaped.note, height)
        left, right = 0.5, 0.12
        page.label("Interactions a day, all types", 0, 0.14, fontweight="bold")
        total = page.axes(left, 0.3, layout.INNER - left - right, _TOTAL)
        _total(total, table[table["interaction_type"] == ALL], shaped.extra)
        top = 0.3 + _TOTAL + 0.5
        page.label("By type, each on its own scale", 0, top, fontweight="bold")
        if shaped.extra["ends"]:
            small = {"ha": "right", "fontsize": style.SMALL, "color": style.MUTED}
            page.label("latest a day", layout.INNER - _CHANGE, top, **small)
            page.label("change", layout.INNER, top, **small)
        for index, kind in enumerate(types):
            rows = table[table["interaction_type"] == kind]
            y = top + 0.14 + index * (_PANEL + _GAP)
            _small(page, _whole(rows, shaped.extra["open"]), kind, y)
        return page.figure


def _total(axes: Axes, rows: pd.DataFrame, extra: dict[str, Any]) -> None:
    axes.set_label(ALL)
    when = rows["period"]
    line = _whole(rows, extra["open"])
    if extra["grain"] == "day":
        axes.plot(when, rows["interactions_per_day"], color=style.PALE, linewidth=0.6,
                  label="day")  # fmt: skip
    axes.plot(line["period"], line["trend_per_day"], color=style.ACCENT, linewidth=2,
              label="trend")  # fmt: skip
    most = max(rows["interactions_per_day"].max(), line["trend_per_day"].max())
    layout.value_axis(axes, most)
    layout.time_axis(axes, when.iloc[0], when.iloc[-1])
    best = _highest(line)
    value = float(best["trend_per_day"])
    if value > 0:
        said = f"peak {text.number(value)}, {text.day(best['period'])}"
        layout.peak(axes, best["period"], value, said)


def _small(page: layout.Page, rows: pd.DataFrame, kind: str, top: float) -> None:
    names, figures = 0.95, 1.45
    axes = page.axes(names, top, layout.INNER - names - figures, _PANEL)
    axes.set_label(kind)
    layout.small_area(axes, rows["period"], rows["trend_per_day"])
    axes.set_xticks([])
    axes.set_yticks([])
    layout.bare(axes)
    name = style.fit(style.drawable(text.spaced(kind)), names - 0.08, style.LABEL)
    base = top + _PANEL * 0.68
    page.label(name, 0, base)
    ends = _ends(rows)
    if ends is None:
        mean = text.number(float(rows["interactions_per_day"].mean()))
        page.label(f"{mean} a day", layout.INNER, base, ha="right")
        return
    page.label(text.number(ends[1]), layout.INNER - _CHANGE, base, ha="right")
    said = text.change(ends[0], ends[1]) if any(ends[:2]) else "–"
    page.label(said, layout.INNER, base, ha="right")


def _draw_one(shaped: Shaped) -> Sheet:
    """One period alone has no trend: bars of its types."""
    rows = shaped.table[shaped.table["interaction_type"] != ALL]
    height = 0.3 * len(rows) + 0.3
    with style.applied():
        page = layout.Page(TITLE, shaped.finding, shaped.note, height)
        page.label("Interactions by type", 0, 0.14, fontweight="bold")
        axes = page.axes(1.0, 0.26, layout.INNER - 1.0, height - 0.26)
        axes.set_label(ALL)
        names = [text.spaced(kind) for kind in rows["interaction_type"]]
        words = [text.number(value) for value in rows["interactions"]]
        layout.named_bars(axes, names, rows["interactions"], words, style.ACCENT)
        return page.figure


CHART = Chart(NAME, TITLE, MART, shape, draw)
