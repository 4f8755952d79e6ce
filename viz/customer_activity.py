"""Customer activity by region and loyalty tier: who acts, where, how much."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from viz import style, text
from viz.chart import Chart, Shaped, empty

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
_ROW = 0.33


def shape(frame: pd.DataFrame) -> Shaped:
    """Rows of the query to one row a region and tier, in the order drawn.

    Args:
        frame: the columns of `analyses/charts/customer_activity.sql`.

    Returns:
        `COLUMNS`; regions by falling interactions with the folded ones last,
        tiers from bronze up. `extra`: `regions`, `tiers` (orders), `folded`
        (how many regions the last row stands for).
    """
    if frame.empty:
        return empty(TITLE, MART, COLUMNS)
    folded = _folded(frame)
    table = _table(frame, folded)
    totals = table.groupby("region", sort=False)["interactions"].sum()
    regions = [name for name in _by_size(totals) if name != _other(folded)]
    if folded:
        regions.append(_other(folded))
    tiers = _tier_order(list(dict.fromkeys(table["loyalty_tier"])))
    table = (
        table.assign(
            _r=table["region"].map(regions.index),
            _t=table["loyalty_tier"].map(tiers.index),
        )
        .sort_values(["_r", "_t"], ignore_index=True)
        .drop(columns=["_r", "_t"])
    )
    reach = text.span(
        text.month(frame["first_month"].min()), text.month(frame["last_month"].max())
    )
    return Shaped(
        table=table,
        finding=_finding(table, regions, tiers, folded),
        note=f"{reach}, by month (UTC). An active customer made at least one "
        f"interaction in the month. Source: marts.{MART}",
        alt=_alt(table, regions, tiers),
        extra={"regions": regions, "tiers": tiers, "folded": folded},
    )


def _folded(frame: pd.DataFrame) -> int:
    others = frame.loc[frame["is_other_region"].astype(bool), "regions"]
    return int(others.max()) if len(others) else 0


def _other(folded: int) -> str:
    return f"{folded} other regions"


def _table(frame: pd.DataFrame, folded: int) -> pd.DataFrame:
    region = frame["region"].map(text.clean)
    region = region.mask(frame["is_other_region"].astype(bool), _other(folded))
    tier = frame["loyalty_tier"].map(text.clean)
    tier = tier.mask(frame["is_other_tier"].astype(bool), "other tiers")
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
    last = ["other tiers", "unknown"]
    known = [tier for tier in _TIERS if tier in names]
    rest = sorted(name for name in names if name not in {*known, *last})
    return known + rest + [name for name in last if name in names]


def _tier_rates(table: pd.DataFrame, tiers: list[str]) -> pd.Series[float]:
    named = table[table["loyalty_tier"].isin(set(tiers) - {"unknown", "other tiers"})]
    sums = named.groupby("loyalty_tier")[["interactions", "customer_months"]].sum()
    rates: pd.Series[float] = _ratio(sums["interactions"], sums["customer_months"])
    return rates.dropna()


def _finding(
    table: pd.DataFrame, regions: list[str], tiers: list[str], folded: int
) -> str:
    total = table["interactions"].sum()
    if total == 0:
        return "No interactions in any region yet"
    known = [name for name in regions if name != "unknown"]
    named = known[: len(known) - bool(folded)] or regions
    leader = named[0]
    lead = table.loc[table["region"] == leader, "interactions"].sum()
    many = f"{text.number(total)} interactions"
    name = text.short(leader, 30)
    if len(regions) == 1:
        first = f"All {many} come from {name}"
    else:
        among = "" if leader == regions[0] else " the known regions"
        first = f"{name} leads{among} with {text.percent(lead / total)} of {many}"
    return f"{first}; {_tier_finding(_tier_rates(table, tiers))}"


def _tier_finding(rates: pd.Series[float]) -> str:
    if rates.empty:
        return "no tier is known"
    top = str(rates.idxmax())
    if len(rates) == 1:
        return f"a {top} customer makes {text.number(rates[top])} a month"
    low = str(rates.idxmin())
    if rates[top] < 1.05 * rates[low]:
        return "the tiers are equally active, within 5%"
    return (
        f"{text.short(top, 20)} customers are {rates[top] / rates[low]:.1f} times "
        f"as active as {text.short(low, 20)}"
    )


def _alt(table: pd.DataFrame, regions: list[str], tiers: list[str]) -> str:
    totals = table.groupby("region")["interactions"].sum()
    parts = [f"{name} {text.number(totals[name])}" for name in regions]
    rates = _tier_rates(table, tiers)
    by_tier = ", ".join(
        f"{tier} {text.number(rates[tier])}" for tier in tiers if tier in rates.index
    )
    return (
        f"Bars of interactions by region: {'; '.join(parts)}. Beside them a grid of "
        f"monthly interactions per active customer by tier; over all regions: "
        f"{by_tier or 'none known'}."
    )


def draw(shaped: Shaped) -> Figure:
    """Bars of interactions by region beside a grid of activity by tier."""
    if shaped.is_empty:
        return style.empty_page(TITLE, shaped.note)
    regions, tiers = shaped.extra["regions"], shaped.extra["tiers"]
    with style.applied():
        height = 0.52 + _ROW * len(regions)
        page = style.Page(TITLE, shaped.finding, shaped.note, height)
        widest = max(style.measure(name, style.SMALL) for name in regions)
        names = min(1.22, max(0.6, widest + 0.1))
        grid = min(max(0.58 * len(tiers), 2.1), 2.4)
        bars = style.INNER - names - grid - 0.1
        body = _ROW * len(regions)
        said = {"fontsize": style.SMALL, "fontweight": "bold"}
        page.label("Interactions", names, 0.16, **said)
        page.label("A month per active customer", style.INNER - grid, 0.16, **said)
        _bars(page.axes(names, 0.5, bars, body), shaped, names, bars)
        _grid(page.axes(style.INNER - grid, 0.5, grid, body), shaped, grid)
        return page.figure


def _bars(axes: Axes, shaped: Shaped, names: float, width: float) -> None:
    regions, folded = shaped.extra["regions"], shaped.extra["folded"]
    totals = shaped.table.groupby("region")["interactions"].sum()[regions]
    whole = max(totals.sum(), 1)
    colors = [style.ACCENT] + [style.PALE] * (len(regions) - 1)
    rows = np.arange(len(regions))
    axes.barh(rows, totals.to_numpy(), height=0.72, color=colors)
    labels = ["\n".join(_lines(name, names - 0.08)) for name in regions]
    axes.set_yticks(
        rows, labels, fontsize=style.SMALL, color=style.INK, linespacing=1.0
    )
    if folded:
        axes.get_yticklabels()[-1].set_color(style.MUTED)
    axes.set_xticks([])
    axes.set_ylim(len(regions) - 0.5, -0.5)
    axes.set_xlim(0, max(totals.max(), 1) * width / max(width - 0.82, 0.3))
    style.bare(axes)
    for row, value in zip(rows, totals, strict=True):
        label = f"{text.number(value)}, {text.percent(value / whole)}"
        axes.annotate(
            label, (value, row), (4, 0), textcoords="offset points", va="center",
            fontsize=style.SMALL, color=style.INK,
        )  # fmt: skip


def _lines(name: str, width: float) -> list[str]:
    """A name on one line or two, the second cut where it is still too long."""
    lines = style.wrap(style.drawable(name), width, style.SMALL)
    if len(lines) < 3:  # noqa: PLR2004
        return lines
    return [lines[0], style.fit(" ".join(lines[1:]), width, style.SMALL)]


def _grid(axes: Axes, shaped: Shaped, width: float) -> None:
    regions, tiers = shaped.extra["regions"], shaped.extra["tiers"]
    wide = shaped.table.pivot(
        index="region", columns="loyalty_tier", values="interactions_per_customer_month"
    ).reindex(index=regions, columns=tiers)
    values = wide.to_numpy(dtype=float)
    known = values[np.isfinite(values)]
    low, high = (known.min(), known.max()) if known.size else (0.0, 1.0)
    for row, column in np.ndindex(values.shape):
        value = float(values[row, column])
        if not np.isfinite(value):
            axes.text(column, row, "–", ha="center", va="center", color=style.MUTED)
            continue
        share = (value - low) / (high - low) if high > low else 0.35
        color = style.BLUES[style.step(share, len(style.BLUES))]
        axes.add_patch(_cell(column, row, color))
        axes.text(
            column, row, text.number(value), ha="center", va="center",
            fontsize=style.SMALL, color=style.text_on(color),
        )  # fmt: skip
    axes.set_xlim(-0.5, len(tiers) - 0.5)
    axes.set_ylim(len(regions) - 0.5, -0.5)
    axes.set_yticks([])
    axes.xaxis.tick_top()
    size = 8.5 if len(tiers) <= 4 else 7.5  # noqa: PLR2004
    room = width / len(tiers) - 0.01
    labels = [style.fit(style.drawable(tier), room, size) for tier in tiers]
    axes.set_xticks(range(len(tiers)), labels, fontsize=size, color=style.INK)
    style.bare(axes)


def _cell(column: int, row: int, color: str) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((column - 0.48, row - 0.46), 0.96, 0.92, color=color, linewidth=0)


CHART = Chart(NAME, TITLE, MART, shape, draw)
