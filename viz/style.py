"""The one look of the charts: inks, type, and the dark version of each.

Every colour is one of `INKS`, so that a dark picture is the light one with each
ink exchanged (`darken`). The inks are the Okabe-Ito blue and vermilion with
greys: told apart by people with any colour vision, and in grey print by their
lightness.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
from matplotlib import font_manager
from matplotlib.textpath import text_to_path

PAPER, INK, MUTED, GRID = "#ffffff", "#1b1f24", "#5a636e", "#dfe3e8"
ACCENT, PALE = "#0067a8", "#a9b2bc"
ON_DEEP = "#fefefe"
BLUES = ("#f1f6fa", "#d8e8f3", "#b3d2e8", "#7fb3d8", "#5299ca", "#0b6aab", "#054a7b")
DIVERGING = (
    "#bd551b",
    "#e08a55",
    "#f3c5a5",
    "#f4f4f3",
    "#b5d4e9",
    "#5a9dcc",
    "#13649f",
)

# Light ink -> dark ink. Low values stay near the paper, high ones stand out.
INKS = {
    PAPER: "#14181d",
    INK: "#eceff2",
    MUTED: "#a7b0ba",
    GRID: "#333b44",
    ACCENT: "#66b3ee",
    PALE: "#66717d",
    ON_DEEP: "#0e1114",
    **dict(
        zip(
            BLUES,
            (
                "#1a222b",
                "#1d3145",
                "#214560",
                "#285a80",
                "#2d6a98",
                "#9ccbf0",
                "#c8e3f9",
            ),
            strict=True,
        )
    ),
    **dict(
        zip(
            DIVERGING,
            (
                "#f2a06d",
                "#8a4a22",
                "#5e3b27",
                "#23282e",
                "#234a66",
                "#2e6893",
                "#a9d5f5",
            ),
            strict=True,
        )
    ),
}

WIDTH = 5.2
"""Inches. On a phone, 375 pixels wide, a point is a pixel: 9 points are read."""
MARGIN = 0.14
PNG_DPI = 220
HEADLINE, TITLE, LABEL, SMALL = 15.5, 10.5, 10.0, 9.0

# DejaVu Sans comes with matplotlib; the others serve scripts it lacks, where the
# machine has them.
_FALLBACKS = (
    "Noto Sans CJK JP",
    "Noto Sans CJK SC",
    "WenQuanYi Zen Hei",
    "Noto Sans Arabic",
    "Noto Sans Hebrew",
    "Noto Sans Devanagari",
    "Noto Sans Thai",
)
_HEX = re.compile(r"#[0-9a-fA-F]{6}\b")


@functools.cache
def families() -> tuple[str, ...]:
    """The fonts in use, first choice first."""
    known = {entry.name for entry in font_manager.fontManager.ttflist}
    return ("DejaVu Sans", *(name for name in _FALLBACKS if name in known))


@functools.cache
def _glyphs() -> frozenset[int]:
    found: set[int] = set()
    for name in families():
        path = font_manager.findfont(name, fallback_to_default=False)
        found |= set(font_manager.get_font(path).get_charmap())
    return frozenset(found)


def drawable(text: str) -> str:
    """`text` with a box for each character that no font here can draw.

    The CSV and the page keep the true text.
    """
    known = _glyphs()
    return "".join(c if ord(c) in known or c == "\n" else "□" for c in text)


@contextmanager
def applied() -> Iterator[None]:
    """Draw and save within this: fonts, inks, no mathtext, stable SVG ids."""
    settings: Any = {
        "font.family": list(families()),
        "font.size": LABEL,
        # `$` and `_` in a product's name are letters, not formulas.
        "text.parse_math": False,
        "text.usetex": False,
        "axes.formatter.use_mathtext": False,
        "axes.unicode_minus": True,
        # Hinted letters are up to 3% wider than `measure` says.
        "text.hinting": "none",
        "text.color": INK,
        "axes.labelcolor": MUTED,
        "axes.edgecolor": GRID,
        "axes.facecolor": PAPER,
        "figure.facecolor": PAPER,
        "savefig.facecolor": PAPER,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.linewidth": 0.8,
        "grid.color": GRID,
        "grid.linewidth": 0.8,
        "xtick.color": MUTED,
        "ytick.color": MUTED,
        "xtick.labelsize": SMALL,
        "ytick.labelsize": SMALL,
        "lines.linewidth": 1.8,
        "lines.solid_capstyle": "round",
        "svg.hashsalt": "ecom",
        "svg.fonttype": "path",
        "path.simplify": True,
        "figure.max_open_warning": 0,
    }
    with mpl.rc_context():
        # A matplotlibrc of the user's must not change the bytes.
        mpl.rcdefaults()
        mpl.rcParams.update(settings)
        yield


def measure(text: str, size: float, weight: str = "normal") -> float:
    """The width of one line of text, in inches."""
    font = font_manager.FontProperties(
        family=list(families()), size=size, weight=weight
    )
    width, _, _ = text_to_path.get_text_width_height_descent(
        drawable(text), font, ismath=False
    )
    return float(width) / 72


def wrap(text: str, width: float, size: float, weight: str = "normal") -> list[str]:
    """Lines of `text` that fit `width` inches; a longer word is cut."""
    lines: list[str] = []
    line = ""
    for word in text.split(" "):
        longer = f"{line} {word}".strip()
        if line and measure(longer, size, weight) > width:
            lines.append(line)
            longer = word
        line = fit(longer, width, size, weight)
    return [*lines, line] if line else lines


def fit(text: str, width: float, size: float, weight: str = "normal") -> str:
    """`text`, or as much of it as fits `width` inches and an ellipsis."""
    if measure(text, size, weight) <= width:
        return text
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        if measure(text[:middle].rstrip() + "…", size, weight) <= width:
            low = middle
        else:
            high = middle - 1
    return text[:low].rstrip() + "…"


def step(share: float, steps: int) -> int:
    """Which of `steps` equal steps a share between 0 and 1 falls into."""
    return min(steps - 1, max(0, int(share * steps)))


def text_on(color: str) -> str:
    """The ink that reads on a cell of this colour."""
    deep = {*BLUES[5:], DIVERGING[0], DIVERGING[-1]}
    return ON_DEEP if color in deep else INK


def darken(svg: str) -> str:
    """The same picture for a dark page.

    Raises:
        KeyError: the picture holds a colour that is no ink of this module.
    """
    return _HEX.sub(lambda match: INKS[match.group(0).lower()], svg)
