"""The page of every chart: headline, drawing, note, and the axes they share."""

from __future__ import annotations

from typing import Any

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

INNER = style.WIDTH - 2 * style.MARGIN
"""Inches between the margins."""
_DAYS_NAMED = 62
"""Days of history up to which ticks are days, such as `30 Jan`."""
_ABOVE = 0.28
"""Inches above the highest value, for the words of its peak."""


class Sheet(Figure):
    """A figure that knows where its drawing is.

    Attributes:
        head, foot: inches above and below the drawing, which hold words that a
            page can say in its own letters.
    """

    head = 0.0
    foot = 0.0


class Page:
    """A figure with its headline above and its note below.

    Places are in inches from the top left of the space between the two.

    Args:
        title: the question, small, at the top.
        finding: the answer, large.
        note: reach and source, small, at the foot.
        height: inches of the space for the drawing.
    """

    def __init__(self, title: str, finding: str, note: str, height: float) -> None:
        head = style.wrap(style.drawable(finding), INNER, style.HEADLINE, "bold")
        foot = style.wrap(style.drawable(note), INNER, style.SMALL)
        self._top = style.MARGIN + 0.24 + len(head) * 0.275 + 0.1
        below = 0.1 + len(foot) * 0.175 + style.MARGIN
        self.height = self._top + height + below
        self.figure = Sheet(figsize=(style.WIDTH, self.height))
        self.figure.head, self.figure.foot = self._top - 0.04, below - 0.04
        self._line(
            style.drawable(title),
            style.MARGIN + 0.13,
            style.TITLE,
            style.MUTED,
            "normal",
        )
        for index, line in enumerate(head):
            y = style.MARGIN + 0.24 + 0.17 + index * 0.275
            self._line(line, y, style.HEADLINE, style.INK, "bold")
        for index, line in enumerate(foot):
            y = self.height - style.MARGIN - 0.03 - (len(foot) - 1 - index) * 0.175
            self._line(line, y, style.SMALL, style.MUTED, "normal")

    def _line(self, line: str, y: float, size: float, color: str, weight: str) -> None:
        self.figure.text(
            style.MARGIN / style.WIDTH,
            1 - y / self.height,
            line,
            fontsize=size,
            color=color,
            fontweight=weight,
            ha="left",
            va="baseline",
        )

    def axes(
        self, left: float, top: float, width: float, height: float, **options: Any
    ) -> Axes:
        """Axes at a place in inches, `left` counted from the page's margin."""
        y = self._top + top + height
        axes: Axes = self.figure.add_axes(
            (
                (style.MARGIN + left) / style.WIDTH,
                1 - y / self.height,
                width / style.WIDTH,
                height / self.height,
            ),
            **options,
        )
        return axes

    def label(self, words: str, left: float, top: float, **options: Any) -> None:
        """One line of text, its baseline `top` inches down."""
        options = {"fontsize": style.LABEL, "color": style.INK, "ha": "left", **options}
        self.figure.text(
            (style.MARGIN + left) / style.WIDTH,
            1 - (self._top + top) / self.height,
            style.drawable(words),
            va="baseline",
            **options,
        )


def bare(axes: Axes) -> None:
    """Leave the marks alone: no frame, no ticks."""
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.tick_params(length=0)


def named_bars(
    axes: Axes, names: list[str], values: Any, words: list[str], colors: Any
) -> None:
    """Bars from zero, each with its name before it and its words behind it.

    Args:
        axes: their width holds the longest bar and its words.
        names: what stands before each bar, top first.
        values: lengths, none below zero.
        words: what stands behind each bar.
        colors: one ink, or one a bar.
    """
    places = range(len(names))
    axes.barh(places, values, height=0.72, color=colors)
    axes.set_yticks(list(places), [style.drawable(name) for name in names],
                    fontsize=style.LABEL, color=style.INK)  # fmt: skip
    axes.set_xticks([])
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlim(0, max(*values, 1e-9) * 1.3)
    bare(axes)
    for place, value, said in zip(places, values, words, strict=True):
        behind(axes, said, value, place, style.LABEL)


def behind(axes: Axes, said: str, value: float, place: float, size: float) -> None:
    """Words behind the end of a bar, on the line of its name."""
    axes.annotate(
        said, (value, place), (4, 0), textcoords="offset points",
        va="center_baseline", fontsize=size, color=style.INK,
    )  # fmt: skip


def time_axis(axes: Axes, first: pd.Timestamp, last: pd.Timestamp) -> None:
    """Few ticks at round days, months or years, from `first` to `last`."""
    axes.set_xlim(first, last)  # type: ignore[arg-type]
    locator = AutoDateLocator(minticks=2, maxticks=6)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    if (last - first).days <= _DAYS_NAMED:
        formatter: Formatter = DateFormatter("%-d %b")  # type: ignore[no-untyped-call]
    else:
        formatter = ConciseDateFormatter(  # type: ignore[no-untyped-call]
            locator, show_offset=False
        )
    axes.xaxis.set_major_formatter(formatter)


def value_axis(axes: Axes, most: float) -> None:
    """From zero to above `most`, with a line and a number at a few round values."""
    height = axes.bbox.height / axes.figure.dpi
    axes.set_ylim(0, max(most, 1) * height / (height - _ABOVE))
    axes.grid(axis="y")
    axes.set_axisbelow(True)
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: text.number(v)))


def small_area(axes: Axes, when: Any, values: Any) -> None:
    """A line on a filled ground from zero, on a scale of its own."""
    axes.fill_between(when, values, color=style.ACCENT, alpha=0.14, linewidth=0)
    axes.plot(when, values, color=style.ACCENT, linewidth=1.3, label="line")
    axes.set_ylim(0, max(values.max(), 1e-9) * 1.05)
    axes.set_xlim(when.iloc[0], when.iloc[-1])


def peak(axes: Axes, when: pd.Timestamp, value: float, said: str) -> None:
    """A dot at the highest value of a line and its words above."""
    low, high = axes.get_xlim()
    at = float(date2num(when))  # type: ignore[no-untyped-call]
    place = (at - low) / max(high - low, 1e-9)
    side = "left" if place < 0.2 else "right" if place > 0.8 else "center"  # noqa: PLR2004
    axes.plot([when], [value], "o", color=style.ACCENT, markersize=4,  # type: ignore[arg-type]
              clip_on=False, label="peak")  # fmt: skip
    axes.annotate(
        said, (when, axes.get_ylim()[1]), (0, -2),
        textcoords="offset points", ha=side, va="top", fontsize=style.SMALL, color=style.INK,
        bbox={"facecolor": style.PAPER, "edgecolor": "none", "pad": 1},
    )  # fmt: skip


def empty_page(title: str, note: str) -> Sheet:
    """The picture of no data: it says so, and what to do."""
    with style.applied():
        page = Page(title, "No data yet", note, 1.5)
        axes = page.axes(0, 0.1, INNER, 1.3)
        axes.set(xticks=[], yticks=[], xlim=(0, 1), ylim=(0, 1))
        for spine in axes.spines.values():
            spine.set_visible(True)
            spine.set_linestyle((0, (4, 4)))
        axes.text(
            0.5,
            0.5,
            "Run `ecom run` to bring the shop's data here",
            ha="center",
            va="center",
            color=style.MUTED,
        )
        return page.figure
