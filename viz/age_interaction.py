"""Customer age and interaction: who acts most, and who does what more often."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm, ListedColormap

from viz import layout, style, text
from viz.chart import Chart, Shaped, empty
from viz.layout import Sheet

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
_ENOUGH, _FEWEST, _STANDS_OUT = 0.01, 30, 1.25
"""What a cell needs to be in the finding: a share of all interactions that its band
and its type have, interactions of its own, times everybody's share."""


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
    cell = _strongest(table, totals, whole)
    if cell is None:
        return f"{first}; no age does anything much more often than all"
    who = "they" if cell["age_band"] == top else f"those {_words(cell['age_band'])}"
    return f"{first}; {who} {_does(cell)} as everybody"


def _strongest(
    table: pd.DataFrame, totals: pd.Series[float], whole: float
) -> pd.Series[Any] | None:
    """The cell furthest above everybody's share, of those that say something."""
    kinds = table.groupby("interaction_type")["interactions"].sum()
    known = table[
        (table["age_band"] != "unknown")
        & (table["age_band"].map(totals) >= _ENOUGH * whole)
        & (table["interaction_type"].map(kinds) >= _ENOUGH * whole)
        & (table["interactions"] >= _FEWEST)
        & (table["ratio_to_all"] >= _STANDS_OUT)
    ]
    if known.empty:
        return None
    return known.iloc[int(known["ratio_to_all"].to_numpy().argmax())]


def _does(cell: pd.Series[Any]) -> str:
    """`review 2.6 times as often`, for any type of interaction."""
    times = f"{cell['ratio_to_all']:.1f} times as often"
    verbs = {"add_to_cart": f"add to a cart {times}", "wishlist": f"wish {times}",
             "purchase": f"buy {times}"}  # fmt: skip
    kind = str(cell["interaction_type"])
    return verbs.get(kind, f"{text.spaced(kind)} {times}")


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


def draw(shaped: Shaped) -> Sheet:
    """Bars of interactions by age above a grid of each band's mix of types."""
    if shaped.is_empty:
        return layout.empty_page(TITLE, shaped.note)
    bands = shaped.extra["bands"]
    body = _ROW * len(bands)
    with style.applied():
        names = max(0.62, *(style.measure(band, style.LABEL) + 0.1 for band in bands))
        names = min(names, 1.4)
        width = layout.INNER - names
        room = width / len(shaped.extra["types"]) - 0.02
        heads = ["\n".join(_lines(name, room)) for name in shaped.extra["types"]]
        gap = 0.86 + 0.16 * max(1 + head.count("\n") for head in heads)
        page = layout.Page(TITLE, shaped.finding, shaped.note, 2 * body + gap + 0.06)
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
    words = [f"{text.number(v)}, {text.percent(v / whole)}" for v in totals]
    layout.named_bars(axes, bands, totals.to_numpy(), words, colors)


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
    layout.bare(axes)


def _lines(name: str, room: float) -> list[str]:
    words = style.drawable(text.spaced(name))
    return style.wrap(words, room, _HEAD)[:2]


CHART = Chart(NAME, TITLE, MART, shape, draw)
