"""Numbers and names as people read them."""

from __future__ import annotations

import pytest

from viz import text


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0, "0"),
        (0.0512, "0.051"),
        (3, "3"),
        (3.14159, "3.1"),
        (999.6, "1,000"),
        (9_999, "9,999"),
        (12_345, "12.3 K"),
        (51_000, "51 K"),
        (999_960, "1 M"),
        (165_400, "165 K"),
        (2_500_000, "2.5 M"),
        (3.4e9, "3.4 bn"),
        (7.2e12, "7.2 tn"),
        (-12_345, "-12.3 K"),
        (float("nan"), "–"),
    ],
)
def test_number(value: float, shown: str) -> None:
    assert text.number(value).replace("\u00a0", " ") == shown


@pytest.mark.parametrize(
    ("share", "shown"),
    [(0, "0%"), (0.0004, "<0.1%"), (0.034, "3.4%"), (0.0996, "10%"), (1, "100%")],
)
def test_percent(share: float, shown: str) -> None:
    assert text.percent(share) == shown


@pytest.mark.parametrize(
    ("before", "after", "shown"),
    [
        (100, 112, "+12%"),
        (100, 97, "−3%"),
        (100, 100.2, "±0%"),
        (10, 42, "×4.2"),
        (1, 1000, "×1,000"),
        (0, 5, "new"),
        (0, 0, "no change"),
    ],
)
def test_change(before: float, after: float, shown: str) -> None:
    assert text.change(before, after) == shown


def test_names_come_on_one_line() -> None:
    assert text.clean("a\n b\x00\tc") == "a b c"
    assert text.clean(None) == "(none)"
    assert text.clean("  ") == "(none)"
    assert text.short("x" * 50, 10) == "x" * 9 + "…"
    assert text.joined(["a", "b", "c"]) == "a, b and c"
