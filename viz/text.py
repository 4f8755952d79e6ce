"""Numbers, dates and names as a reader expects them."""

from __future__ import annotations

import math
from datetime import date, datetime
from typing import Any

import pandas as pd

# A no-break space keeps a number and its unit on one line.
_STEPS = ((1e12, "\u00a0tn"), (1e9, "\u00a0bn"), (1e6, "\u00a0M"), (1e3, "\u00a0K"))
_PLAIN_BELOW = 10_000


def number(value: float) -> str:
    """A number of three figures or so: 950, 1,234, 12.3 K, 4.5 M, 1.2 bn."""
    if not math.isfinite(value):
        return "–"
    size = abs(value)
    if size < _PLAIN_BELOW:
        if size >= 100 or float(value).is_integer():  # noqa: PLR2004
            return f"{value:,.0f}"
        return f"{value:.1f}" if size >= 1 else f"{value:.2g}"
    for step, name in _STEPS:
        # 999,950 would round to "1000.0 K": the next unit takes it.
        if size >= step * 0.99995:
            scaled = value / step
            digits = 0 if abs(scaled) >= 99.95 else 1  # noqa: PLR2004
            return f"{scaled:,.{digits}f}".removesuffix(".0") + name
    return f"{value:,.0f}"


def percent(share: float) -> str:
    """A share of one as a percentage: 34%, 3.4%, <0.1%."""
    if not math.isfinite(share):
        return "–"
    value = share * 100
    if 0 < value < 0.1:  # noqa: PLR2004
        return "<0.1%"
    if value == 0 or value >= 9.95:  # noqa: PLR2004
        return f"{value:.0f}%"
    return f"{value:.1f}%"


def change(before: float, after: float) -> str:
    """How `after` differs from `before`: +12%, −3%, ×4.2, new, no change."""
    if before <= 0:
        return "new" if after > 0 else "no change"
    ratio = after / before
    if ratio >= 3:  # noqa: PLR2004
        return f"×{ratio:.1f}" if ratio < 100 else f"×{ratio:,.0f}"  # noqa: PLR2004
    rounded = round((ratio - 1) * 100)
    if rounded == 0:
        return "±0%"
    return f"+{rounded}%" if rounded > 0 else f"−{-rounded}%"


def count(value: float, singular: str, plural: str | None = None) -> str:
    """A number and its unit: `1 region`, `60 regions`."""
    return f"{number(value)} {singular if value == 1 else plural or singular + 's'}"


def joined(names: list[str]) -> str:
    """Names as a sentence takes them: `a`, `a and b`, `a, b and c`."""
    if len(names) < 2:  # noqa: PLR2004
        return "".join(names)
    return ", ".join(names[:-1]) + " and " + names[-1]


def clean(value: Any) -> str:
    """A name on one line, without control characters; `(none)` where empty."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "(none)"
    kept = "".join(c if c.isprintable() else " " for c in str(value))
    return " ".join(kept.split()) or "(none)"


def short(value: Any, length: int) -> str:
    """A clean name of at most `length` characters, an ellipsis where cut."""
    name = clean(value)
    return name if len(name) <= length else name[: length - 1].rstrip() + "…"


def spaced(name: Any) -> str:
    """A code as words: `add_to_cart` becomes `add to cart`."""
    return clean(name).replace("_", " ")


def day(value: Any) -> str:
    """A day: 15 Oct 2024."""
    moment = as_date(value)
    return f"{moment.day} {moment:%b} {moment.year}"


def month(value: Any) -> str:
    """A month: Oct 2024."""
    moment = as_date(value)
    return f"{moment:%b} {moment.year}"


def span(first: str, last: str) -> str:
    """Two ends of a range, or one where they are the same."""
    return first if first == last else f"{first} to {last}"


def as_date(value: Any) -> date:
    """A date from what a query or pandas gives."""
    if isinstance(value, datetime):
        return value.date()
    if isinstance(value, date):
        return value
    stamp: date = pd.Timestamp(str(value)).date()
    return stamp


def numeric(column: pd.Series[Any]) -> pd.Series[float]:
    """Counts, decimals and nulls of a query as floats, null as zero."""
    return pd.to_numeric(column, errors="coerce").fillna(0).astype(float)
