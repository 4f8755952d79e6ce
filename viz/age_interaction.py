"""Customer age and interaction: who acts most, and who does what more often."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure

from viz import style, text
from viz.chart import Chart, Shaped, empty

NAME = "age_interaction"
TITLE = "Customer age and interaction"
MART = "interaction_by_age"
COLUMNS = [
    "age_band",
    "interaction_type",
    "customers",
    "interactions",
    "share_of_band",
    "ratio_to_all",
]
BANDS = ["<18", "18-24", "25-34", "35-44", "45-54", "55-64", "65+", "unknown"]
TYPES = ["view", "search", "click", "add_to_cart", "wishlist", "purchase", "review"]
_ROW = 0.31
_HEAD = 8.5
_EDGES = (0.0, 0.67, 0.8, 0.9, 1.1, 1.25, 1.5, np.inf)
"""Ratios to everybody's share where the colour changes, one step a colour."""
_ENOUGH = 0.01
"""A band with a smaller share of all interactions takes no part in the finding."""


def shape(frame: pd.DataFrame) -> Shaped:
    """Rows of the query to one row a band and type, bands from young to old.

    Args:
        frame: the columns of `analyses/charts/age_interaction.sql`.

    Returns:
        `COLUMNS`: `share_of_band` is the type's share of the band's interactions,
        `ratio_to_all` that share over the same type's share of all interactions.
        `extra`: `bands` and `types`, the orders drawn.
    """
    if frame.empty:
        return empty(TITLE, MART, COLUMNS)
    table = pd.DataFrame(
        {
            "age_band": frame["age_band"].map(text.clean),
            "interaction_type": frame["interaction_type"].map(text.clean),
            "customers": text.numeric(frame["customers"]),
            "interactions": text.numeric(frame["interactions"]),
        }
    )
    table = table.groupby(["age_band", "interaction_type"], as_index=False).sum()
    bands = _order(table["age_band"], BANDS)
    types = _order(table["interaction_type"], TYPES)
    table = _with_shares(table)
    table = (
        table.assign(
            _b=table["age_band"].map(bands.index),
            _t=table["interaction_type"].map(types.index),
        )
        .sort_values(["_b", "_t"], ignore_index=True)
        .drop(columns=["_b", "_t"])
    )
    return Shaped(
        table=table,
        finding=_finding(table),
        note="Age in whole years on the day of the interaction; unknown where no "
        "birth date is known. In the grid: the type's share of the band's "
        "interactions; blue where the band does it more often than everybody, "
        f"orange where less. Source: marts.{MART}",
        alt=_alt(table, bands),
        extra={"bands": bands, "types": types},
    )


def _order(names: pd.Series[Any], known: list[str]) -> list[str]:
    found = set(names)
    return [n for n in known if n in found] + sorted(found - set(known))


def _with_shares(table: pd.DataFrame) -> pd.DataFrame:
    total = max(table["interactions"].sum(), 1)
    band = table.groupby("age_band")["interactions"].transform("sum")
    kind = table.groupby("interaction_type")["interactions"].transform("sum")
    share = table["interactions"] / band.where(band > 0)
    overall = kind / total
    return table.assign(
        share_of_band=share, ratio_to_all=share / overall.where(overall > 0)
    )


def _finding(table: pd.DataFrame) -> str:
    totals = table.groupby("age_band")["interactions"].sum()
    whole = totals.sum()
    if whole == 0:
        return "No interactions in any age band yet"
    known = totals.drop("unknown", errors="ignore")
    if known.sum() == 0:
        return f"The age behind all {text.number(whole)} interactions is unknown"
    top = str(known.idxmax())
    first = (
        f"Customers aged {_words(top)} make {text.percent(totals[top] / whole)} of "
        f"{text.number(whole)} interactions"
    )
    buyers = table[
        (table["interaction_type"] == "purchase")
        & (table["age_band"] != "unknown")
        & (table["age_band"].map(totals) >= _ENOUGH * whole)
    ]
    if len(buyers) < 2:  # noqa: PLR2004
        return first
    best = buyers.iloc[int(buyers["share_of_band"].to_numpy().argmax())]
    if best["age_band"] == top:
        share = text.percent(best["share_of_band"])
        return f"{first} and buy most often, {share} of what they do"
    return (
        f"{first}; those {_words(best['age_band'])} buy most often, "
        f"{text.percent(best['share_of_band'])} of what they do"
    )


def _words(band: str) -> str:
    if band.startswith("<"):
        return f"under {band[1:]}"
    return f"{band[:-1]} and over" if band.endswith("+") else band.replace("-", "–")


def _alt(table: pd.DataFrame, bands: list[str]) -> str:
    totals = table.groupby("age_band")["interactions"].sum()
    parts = "; ".join(f"{band} {text.number(totals[band])}" for band in bands)
    order = table.dropna(subset=["ratio_to_all"]).sort_values(
        ["ratio_to_all", "age_band", "interaction_type"], ascending=[False, True, True]
    )
    strongest = order.head(2)
    said = " and ".join(
        f"{row.age_band} for {text.spaced(row.interaction_type)} "
        f"({row.ratio_to_all:.1f} times everybody's share)"
        for row in strongest.itertuples()
    )
    return (
        f"Bars of interactions by age band: {parts}. Below, a grid of what each band "
        f"does; most above everybody's share: {said or 'none'}."
    )


def draw(shaped: Shaped) -> Figure:
    """Bars of interactions by age above a grid of each band's mix of types."""
    if shaped.is_empty:
        return style.empty_page(TITLE, shaped.note)
    bands = shaped.extra["bands"]
    body = _ROW * len(bands)
    with style.applied():
        names = max(0.62, *(style.measure(band, style.LABEL) + 0.1 for band in bands))
        names = min(names, 1.4)
        width = style.INNER - names
        room = width / len(shaped.extra["types"]) - 0.02
        heads = ["\n".join(_lines(name, room)) for name in shaped.extra["types"]]
        gap = 0.86 + 0.16 * max(1 + head.count("\n") for head in heads)
        page = style.Page(TITLE, shaped.finding, shaped.note, 2 * body + gap + 0.06)
        page.label("Interactions, share of all", 0, 0.16, fontweight="bold")
        _bars(page.axes(names, 0.26, width, body), shaped)
        page.label("What each band does, share of its own", 0, body + 0.66,
                   fontweight="bold")  # fmt: skip
        _grid(page.axes(names, body + gap, width, body), shaped, heads)
        return page.figure


def _bars(axes: Axes, shaped: Shaped) -> None:
    bands = shaped.extra["bands"]
    totals = shaped.table.groupby("age_band")["interactions"].sum()[bands]
    whole = max(totals.sum(), 1)
    known = totals.drop("unknown", errors="ignore")
    known = known[known > 0]
    top = known.idxmax() if len(known) else None
    colors = [style.ACCENT if band == top else style.PALE for band in bands]
    rows = np.arange(len(bands))
    axes.barh(rows, totals.to_numpy(), height=0.72, color=colors)
    labels = [style.drawable(band) for band in bands]
    axes.set_yticks(rows, labels, fontsize=style.LABEL, color=style.INK)
    axes.set_xticks([])
    axes.set_ylim(len(bands) - 0.5, -0.5)
    axes.set_xlim(0, max(totals.max(), 1) * 1.3)
    style.bare(axes)
    for row, value in zip(rows, totals, strict=True):
        axes.annotate(
            f"{text.number(value)}, {text.percent(value / whole)}",
            (value, row), (4, 0), textcoords="offset points", va="center",
            fontsize=style.LABEL, color=style.INK,
        )  # fmt: skip


def _grid(axes: Axes, shaped: Shaped, heads: list[str]) -> None:
    bands, types = shaped.extra["bands"], shaped.extra["types"]
    ratios, shares = (
        shaped.table.pivot(
            index="age_band", columns="interaction_type", values=name
        ).reindex(index=bands, columns=types)
        for name in ("ratio_to_all", "share_of_band")
    )
    values = ratios.astype(float).fillna(1.0)
    norm = BoundaryNorm(_EDGES, len(style.DIVERGING))
    sns.heatmap(
        values,
        ax=axes,
        cmap=ListedColormap(list(style.DIVERGING)),
        norm=norm,
        cbar=False,
        linewidths=1.2,
        linecolor=style.PAPER,
        rasterized=False,
    )
    ratio, drawn = values.to_numpy(), shares.to_numpy(dtype=float)
    for row, column in np.ndindex(ratio.shape):
        share = drawn[row, column]
        color = style.DIVERGING[int(norm(ratio[row, column]))]
        axes.text(
            column + 0.5,
            row + 0.5,
            text.percent(float(share)),
            ha="center",
            va="center",
            fontsize=style.SMALL,
            color=style.text_on(color),
        )
    axes.set(xlabel="", ylabel="")
    axes.xaxis.tick_top()
    axes.set_xticks(
        np.arange(len(types)) + 0.5,
        heads,
        fontsize=_HEAD,
        color=style.INK,
        rotation=0,
    )
    axes.set_yticks(
        np.arange(len(bands)) + 0.5,
        [style.drawable(band) for band in bands],
        fontsize=style.LABEL,
        color=style.INK,
        rotation=0,
    )
    style.bare(axes)


def _lines(name: str, room: float) -> list[str]:
    words = style.drawable(text.spaced(name))
    return style.wrap(words, room, _HEAD)[:2]


CHART = Chart(NAME, TITLE, MART, shape, draw)
