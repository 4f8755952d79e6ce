"""Customer activity by region and loyalty tier: who acts, where, how much."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from viz import layout, style, text
from viz.chart import Chart, Shaped, empty
from viz.layout import Sheet

NAME = "customer_activity"
TITLE = "Customer activity by region and loyalty tier"
MART = "customer_activity_by_region_tier"
COLUMNS = [
    "region",
    "loyalty_tier",
    "interactions",
    "purchases",
    "customer_months",
    "interactions_per_customer_month",
]
_TIERS = ["bronze", "silver", "gold", "platinum"]
_UNKNOWN, _OTHER_TIERS = "unknown", "other tiers"
_ROW = 0.33
_FEWEST = 30
"""Customer-months below which a rate is too unsure to colour or to compare."""


def shape(frame: pd.DataFrame) -> Shaped:
    """Rows of the query to one row a region and tier, in the order drawn.

    Args:
        frame: the columns of `analyses/charts/customer_activity.sql`.

    Returns:
        `COLUMNS`; regions by falling interactions with the folded ones last,
        tiers from bronze up, unknown customers last. `extra`: `regions`, `tiers`
        (orders drawn), `folded` (how many regions one row stands for).
    """
    if frame.empty:
        return empty(TITLE, MART, COLUMNS)
    folded = _folded(frame)
    table = _table(frame, folded)
    totals = table.groupby("region", sort=False)["interactions"].sum()
    last = [name for name in (_other(folded), _UNKNOWN) if name in totals.index]
    regions = [name for name in _by_size(totals) if name not in last] + last
    tiers = _tier_order(list(dict.fromkeys(table["loyalty_tier"])))
    table = (
        table.assign(
            _r=table["region"].map(regions.index),
            _t=table["loyalty_tier"].map(tiers.index),
        )
        .sort_values(["_r", "_t"], ignore_index=True)
        .drop(columns=["_r", "_t"])
    )
    return Shaped(
        table=table,
        finding=_finding(table, regions, tiers, folded),
        note=_note(frame, table),
        alt=_alt(table, regions, tiers),
        extra={
            "regions": regions,
            "tiers": _columns(table, tiers),
            "folded": folded,
        },
    )


def _note(frame: pd.DataFrame, table: pd.DataFrame) -> str:
    reach = text.span(
        text.month(frame["first_month"].min()), text.month(frame["last_month"].max())
    )
    few = table["customer_months"].between(0, _FEWEST, inclusive="neither").any()
    plain = (
        f" No colour: fewer than {_FEWEST} customer-months, too few to compare."
        if few
        else ""
    )
    return (
        f"{reach}, by month (UTC). An active customer made at least one interaction "
        f"in the month.{plain} Source: marts.{MART}"
    )


def _columns(table: pd.DataFrame, tiers: list[str]) -> list[str]:
    """Tiers with a column: `unknown` alone says nothing where it is one row."""
    known = set(table.loc[table["region"] != _UNKNOWN, "loyalty_tier"])
    return [tier for tier in tiers if tier in known] or tiers


def _folded(frame: pd.DataFrame) -> int:
    others = frame.loc[frame["is_other_region"].astype(bool), "regions"]
    return int(others.max()) if len(others) else 0


def _other(folded: int) -> str:
    return f"{folded} other regions"


def _table(frame: pd.DataFrame, folded: int) -> pd.DataFrame:
    region = frame["region"].map(text.clean)
    region = region.mask(frame["is_other_region"].astype(bool), _other(folded))
    tier = frame["loyalty_tier"].map(text.clean)
    tier = tier.mask(frame["is_other_tier"].astype(bool), _OTHER_TIERS)
    table = pd.DataFrame({"region": region, "loyalty_tier": tier})
    for name in ("interactions", "purchases", "customer_months"):
        table[name] = text.numeric(frame[name])
    table = table.groupby(["region", "loyalty_tier"], as_index=False).sum()
    table["interactions_per_customer_month"] = _ratio(
        table["interactions"], table["customer_months"]
    )
    return table


def _ratio(above: Any, below: Any) -> Any:
    return above / below.where(below > 0)


def _by_size(totals: pd.Series[float]) -> list[str]:
    return sorted(totals.index, key=lambda name: (-totals[name], name))


def _tier_order(names: list[str]) -> list[str]:
    last = [_OTHER_TIERS, _UNKNOWN]
    known = [tier for tier in _TIERS if tier in names]
    rest = sorted(name for name in names if name not in {*known, *last})
    return known + rest + [name for name in last if name in names]


def _tier_rates(table: pd.DataFrame, tiers: list[str]) -> pd.Series[float]:
    """Interactions a customer-month by tier, where a tier has enough of them."""
    named = table[table["loyalty_tier"].isin(set(tiers) - {_UNKNOWN, _OTHER_TIERS})]
    sums = named.groupby("loyalty_tier")[["interactions", "customer_months"]].sum()
    sums = sums[sums["customer_months"] >= _FEWEST]
    return sums["interactions"] / sums["customer_months"]


def _finding(
    table: pd.DataFrame, regions: list[str], tiers: list[str], folded: int
) -> str:
    total = table["interactions"].sum()
    if total == 0:
        return "No interactions in any region yet"
    # Regions come with the folded and the unknown last.
    leader = regions[0] if len(regions) > 1 or not folded else _other(folded)
    lead = table.loc[table["region"] == leader, "interactions"].sum()
    sums = table.groupby("region")["interactions"].sum()
    many = f"{text.number(total)} interactions"
    name = text.short(leader, 30)
    if len(regions) == 1:
        first = f"All {many} come from {name}"
    else:
        hidden = sums.get(_UNKNOWN, 0.0) > lead
        among = " the known regions" if hidden else ""
        first = f"{name} leads{among} with {text.percent(lead / total)} of {many}"
    return "; ".join([first, *_tier_finding(_tier_rates(table, tiers))])


def _tier_finding(rates: pd.Series[float]) -> list[str]:
    if rates.empty:
        return []
    top, low = str(rates.idxmax()), str(rates.idxmin())
    if len(rates) == 1:
        return [f"a {text.short(top, 20)} customer makes {_rate(rates[top])} a month"]
    if rates[top] < 1.05 * rates[low]:
        return ["the tiers are equally active, within 5%"]
    return [
        f"{text.short(top, 20)} customers are {rates[top] / rates[low]:.1f} times "
        f"as active as {text.short(low, 20)}"
    ]


def _alt(table: pd.DataFrame, regions: list[str], tiers: list[str]) -> str:
    totals = table.groupby("region")["interactions"].sum()
    parts = [f"{name} {text.number(totals[name])}" for name in regions]
    rates = _tier_rates(table, tiers)
    by_tier = ", ".join(
        f"{tier} {_rate(rates[tier])}" for tier in tiers if tier in rates.index
    )
    return (
        f"Bars of interactions by region: {'; '.join(parts)}. Beside them a grid of "
        f"monthly interactions per active customer by tier; over all regions: "
        f"{by_tier or 'none known'}."
    )


def draw(shaped: Shaped) -> Sheet:
    """Bars of interactions by region beside a grid of activity by tier."""
    if shaped.is_empty:
        return layout.empty_page(TITLE, shaped.note)
    regions, tiers = shaped.extra["regions"], shaped.extra["tiers"]
    with style.applied():
        # One row more, over all regions, where there are several.
        lines = len(regions) + (len(regions) > 1)
        body = _ROW * lines
        page = layout.Page(TITLE, shaped.finding, shaped.note, 0.52 + body)
        shown = regions if len(regions) == 1 else [*regions, "All regions"]
        widest = max(style.measure(name, style.SMALL) for name in shown)
        names = min(1.22, max(0.6, widest + 0.1))
        grid = min(max(0.57 * len(tiers), 2.0), 2.4)
        bars = layout.INNER - names - grid - 0.1
        said = {"fontsize": style.SMALL, "fontweight": "bold"}
        whole = text.number(shaped.table["interactions"].sum())
        page.label(f"Share of {whole} interactions", 0, 0.16, **said)
        page.label("A month per active customer", layout.INNER - grid, 0.16, **said)
        _bars(page.axes(names, 0.5, bars, body), shaped, names, lines)
        _grid(page.axes(layout.INNER - grid, 0.5, grid, body), shaped, grid, lines)
        return page.figure


def _bars(axes: Axes, shaped: Shaped, names: float, lines: int) -> None:
    regions, folded = shaped.extra["regions"], shaped.extra["folded"]
    totals = shaped.table.groupby("region")["interactions"].sum()[regions]
    whole = max(totals.sum(), 1)
    colors = [style.ACCENT] + [style.PALE] * (len(regions) - 1)
    rows = np.arange(len(regions))
    axes.barh(rows, totals.to_numpy(), height=0.72, color=colors)
    labels = ["\n".join(_lines(name, names - 0.08)) for name in regions]
    places = [*rows, *range(len(regions), lines)]
    labels += ["All regions"] * (lines - len(regions))
    axes.set_yticks(
        places, labels, fontsize=style.SMALL, color=style.INK, linespacing=1.0
    )
    for name, label in zip(regions, axes.get_yticklabels(), strict=False):
        if name == _UNKNOWN or (folded and name == _other(folded)):
            label.set_color(style.MUTED)
    axes.set_xticks([])
    axes.set_ylim(lines - 0.5, -0.5)
    axes.set_xlim(0, max(totals.max(), 1) * 1.45)
    layout.bare(axes)
    for row, value in zip(rows, totals, strict=True):
        said = text.percent(value / whole)
        layout.behind(axes, said, value, float(row), style.SMALL)


def _lines(name: str, width: float) -> list[str]:
    """A name on one line or two, the second cut where it is still too long."""
    lines = style.wrap(style.drawable(name), width, style.SMALL)
    if len(lines) < 3:  # noqa: PLR2004
        return lines
    return [lines[0], style.fit(" ".join(lines[1:]), width, style.SMALL)]


def _grid(axes: Axes, shaped: Shaped, width: float, lines: int) -> None:
    regions, tiers = shaped.extra["regions"], shaped.extra["tiers"]
    rates, enough = _cells(shaped.table, regions, tiers)
    known = rates[enough]
    low, high = (known.min(), known.max()) if known.size else (0.0, 1.0)
    for row, column in np.ndindex(lines, len(tiers)):
        value = float(rates[row, column])
        if not np.isfinite(value):
            axes.text(column, row, "–", ha="center", va="center", color=style.MUTED)
            continue
        color, ink = style.PAPER, style.MUTED
        if enough[row, column]:
            share = (value - low) / (high - low) if high > low else 0.35
            color = style.BLUES[style.step(share, len(style.BLUES))]
            ink = style.text_on(color)
            axes.add_patch(_cell(column, row, color))
        axes.text(
            column, row, _rate(value), ha="center", va="center",
            fontsize=style.SMALL, color=ink,
            fontweight="bold" if row == len(regions) else "normal",
        )  # fmt: skip
    axes.set_xlim(-0.5, len(tiers) - 0.5)
    axes.set_ylim(lines - 0.5, -0.5)
    axes.set_yticks([])
    axes.xaxis.tick_top()
    size = 8.5 if len(tiers) <= 4 else 7.5  # noqa: PLR2004
    room = width / len(tiers) - 0.01
    labels = [style.fit(style.drawable(tier), room, size) for tier in tiers]
    axes.set_xticks(range(len(tiers)), labels, fontsize=size, color=style.INK)
    layout.bare(axes)


def _cells(
    table: pd.DataFrame, regions: list[str], tiers: list[str]
) -> tuple[Any, Any]:
    """Rates by region and tier, all regions last, and which are sure enough.

    The unknown region has none: one guest's number would stand for thousands.
    """
    known = table[table["region"] != _UNKNOWN]
    sums = [
        known.pivot(index="region", columns="loyalty_tier", values=name)
        .reindex(index=regions, columns=tiers)
        .to_numpy(dtype=float)
        for name in ("interactions", "customer_months")
    ]
    made, months = (np.vstack([part, np.nansum(part, axis=0)]) for part in sums)
    rates = np.divide(
        made, months, out=np.full_like(made, np.nan), where=np.nan_to_num(months) > 0
    )
    return rates, np.nan_to_num(months) >= _FEWEST


def _rate(value: float) -> str:
    """Interactions a month with one decimal, so that a grid reads in columns."""
    return f"{value:.1f}" if value < 1000 else text.number(value)  # noqa: PLR2004


def _cell(column: int, row: int, color: str) -> Rectangle:
    return Rectangle((column - 0.48, row - 0.46), 0.96, 0.92, color=color, linewidth=0)


CHART = Chart(NAME, TITLE, MART, shape, draw)
