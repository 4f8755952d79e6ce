"""The figures: what they say, what they draw, and that nothing collides."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text

from common.settings import PROJECT
from viz import charts, interaction_trend, purchase_trends, style
from viz.chart import Chart, Shaped
from viz.charts import CHARTS

Rows = dict[str, dict[str, pd.DataFrame]]
CASES = ["sample", "sixty", "one", "decade", "unicode", "tiny", "zero", "empty"]
EVERY = pytest.mark.parametrize("chart", CHARTS, ids=[chart.name for chart in CHARTS])
BY_NAME = {chart.name: chart for chart in CHARTS}


def _drawn(rows: Rows, case: str, name: str) -> tuple[Shaped, Figure]:
    chart = BY_NAME[name]
    shaped = chart.shape(rows[case][name])
    return shaped, chart.draw(shaped)


def _texts(figure: Figure) -> list[tuple[str, Any]]:
    """Every text that shows, with its box in pixels."""
    with style.applied():
        canvas: Any = FigureCanvasAgg(figure)
        canvas.draw()
        renderer = canvas.get_renderer()
        found = [
            item
            for item in figure.findobj(Text)
            if isinstance(item, Text) and item.get_visible() and item.get_text().strip()
        ]
        hidden = {
            label
            for axes in figure.axes
            for axis in (axes.xaxis, axes.yaxis)
            for tick in axis.get_major_ticks()
            for label, shows in (
                (tick.label1, tick.label1.get_visible()),
                (tick.label2, tick.label2.get_visible()),
            )
            if not shows or not _within(axis, tick)
        }
        return [
            (item.get_text(), item.get_window_extent(renderer))
            for item in found
            if item not in hidden
        ]


def _within(axis: Any, tick: Any) -> bool:
    low, high = sorted(axis.get_view_interval())
    return bool(low <= tick.get_loc() <= high)


@EVERY
@pytest.mark.parametrize("case", CASES)
def test_every_case_draws_without_a_warning(
    chart: Chart, case: str, rows: Rows, gallery: Path
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        shaped = chart.shape(rows[case][chart.name])
        result, files = charts.drawn(chart, shaped)
    assert result.finding
    assert result.alt
    png = files[f"{chart.name}.png"]
    assert png.startswith(b"\x89PNG")
    (gallery / f"{case}-{chart.name}.png").write_bytes(png)


@EVERY
@pytest.mark.parametrize("case", CASES)
def test_no_text_collides_or_leaves_the_page(
    chart: Chart, case: str, rows: Rows
) -> None:
    _, figure = _drawn(rows, case, chart.name)
    texts = _texts(figure)
    page = figure.bbox.padded(-0.7 * style.MARGIN * figure.dpi)
    assert len(texts) >= 4
    for words, box in texts:
        assert box.x0 >= page.x0 - 1, words
        assert box.x1 <= page.x1 + 1, words
        assert box.y0 >= page.y0 - 1, words
        assert box.y1 <= page.y1 + 1, words
    for index, (words, box) in enumerate(texts):
        for other, against in texts[index + 1 :]:
            wide = min(box.x1, against.x1) - max(box.x0, against.x0)
            high = min(box.y1, against.y1) - max(box.y0, against.y0)
            # Boxes hold the descenders' room too: two pixels of a hundred an inch.
            assert wide <= 1 or high <= 3, f"{words!r} over {other!r}"


@EVERY
def test_the_headline_is_the_finding_with_numbers(chart: Chart, rows: Rows) -> None:
    shaped, figure = _drawn(rows, "sample", chart.name)
    lines = [item.get_text() for item in figure.texts]
    assert lines[0] == chart.title
    assert shaped.finding in " ".join(lines)
    assert re.search(r"\d", shaped.finding)
    assert f"marts.{chart.mart}" in shaped.note


@EVERY
def test_no_data_is_said_and_not_drawn(chart: Chart, rows: Rows) -> None:
    shaped, figure = _drawn(rows, "empty", chart.name)
    assert shaped.is_empty
    words = " ".join(item.get_text() for item in figure.texts)
    assert "No data yet" in words
    assert chart.mart in shaped.note


@EVERY
def test_the_same_data_give_the_same_bytes(chart: Chart, rows: Rows) -> None:
    shuffled = rows["sample"][chart.name].sample(frac=1, random_state=3)
    made = []
    for frame in (rows["sample"][chart.name], shuffled):
        figure = chart.draw(chart.shape(frame))
        made.append((charts.png_bytes(figure), charts.svg_text(figure)))
    assert made[0] == made[1]
    assert b"Software" not in made[0][0]
    assert "<dc:date>" not in made[0][1]


def test_another_process_gives_the_same_bytes(rows: Rows, tmp_path: Path) -> None:
    chart = BY_NAME["top_products"]
    frame = rows["unicode"][chart.name]
    frame.to_pickle(tmp_path / "rows.pickle")
    program = (
        "import sys, pandas as pd; from pathlib import Path; from viz import charts, "
        "top_products as t; p = Path(sys.argv[1]); "
        "charts.write_all([charts.drawn(t.CHART, "
        "t.shape(pd.read_pickle(p / 'rows.pickle')))], p)"
    )
    subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        check=True,
        cwd=PROJECT,
        env={**os.environ, "PYTHONHASHSEED": "77"},
    )
    figure = chart.draw(chart.shape(frame))
    assert (tmp_path / "top_products.svg").read_text() == charts.svg_text(figure)
    assert (tmp_path / "top_products.png").read_bytes() == charts.png_bytes(figure)


@EVERY
@pytest.mark.parametrize("case", ["sample", "unicode", "empty"])
def test_every_ink_has_a_dark_one(chart: Chart, case: str, rows: Rows) -> None:
    _, figure = _drawn(rows, case, chart.name)
    svg = charts.svg_text(figure)
    used = {color.lower() for color in re.findall(r"#[0-9a-fA-F]{6}\b", svg)}
    assert used <= set(style.INKS)
    dark = style.darken(svg)
    assert style.INKS[style.PAPER] in dark
    assert not re.search(r"(fill|stroke): ?(black|white)", svg)


def _luminance(color: str) -> float:
    parts = [int(color[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _contrast(one: str, other: str) -> float:
    low, high = sorted((_luminance(one), _luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("color", [*style.BLUES, *style.DIVERGING])
def test_words_on_cells_can_be_read_in_light_and_dark(color: str) -> None:
    ink = style.text_on(color)
    assert _contrast(color, ink) >= 4.5
    assert _contrast(style.INKS[color], style.INKS[ink]) >= 4.5


@pytest.mark.parametrize("ink", [style.INK, style.MUTED, style.ACCENT])
def test_words_on_paper_can_be_read_in_light_and_dark(ink: str) -> None:
    assert _contrast(ink, style.PAPER) >= 4.5
    assert _contrast(style.INKS[ink], style.INKS[style.PAPER]) >= 4.5


def _bars(figure: Figure, axes: int) -> list[float]:
    return [float(bar.get_width()) for bar in figure.axes[axes].patches]  # type: ignore[attr-defined]


@pytest.mark.parametrize("case", ["sample", "sixty", "one", "tiny"])
def test_activity_bars_and_cells_are_the_marts(
    case: str, rows: Rows, marts: Rows
) -> None:
    shaped, figure = _drawn(rows, case, "customer_activity")
    mart = marts[case]["customer_activity_by_region_tier"]
    bars = _bars(figure, 0)
    assert sum(bars) == mart["interactions"].sum()
    sums = mart.groupby("region")["interactions"].sum()
    largest = sums.drop("unknown", errors="ignore").nlargest(12)
    assert bars[: len(largest)] == largest.tolist()
    table = shaped.table.set_index(["region", "loyalty_tier"])
    known = mart[mart["region"] != "unknown"]
    cells = {
        (round(item.get_position()[0]), round(item.get_position()[1])): item.get_text()
        for item in figure.axes[1].texts
    }
    for row, region in enumerate(largest.index):
        for column, tier in enumerate(shaped.extra["tiers"]):
            if tier == "other tiers":
                continue
            own = known[(known["region"] == region) & (known["loyalty_tier"] == tier)]
            if own.empty:
                assert cells[column, row] == "–"
                continue
            rate = own["interactions"].sum() / own["active_customers"].sum()
            assert cells[column, row] == f"{rate:.1f}"
            found = table.loc[(region, tier), "interactions_per_customer_month"]
            assert found == pytest.approx(rate)


def test_activity_shows_the_tiers_of_all_regions(rows: Rows, marts: Rows) -> None:
    shaped, figure = _drawn(rows, "sample", "customer_activity")
    mart = marts["sample"]["customer_activity_by_region_tier"]
    known = mart[mart["region"] != "unknown"]
    gold = known[known["loyalty_tier"] == "gold"]
    rate = gold["interactions"].sum() / gold["active_customers"].sum()
    last = [item for item in figure.axes[1].texts if item.get_fontweight() == "bold"]
    assert [item.get_text() for item in last][2] == f"{rate:.1f}"
    assert len(last) == len(shaped.extra["tiers"])


def test_activity_puts_the_unknown_last_and_without_a_rate(rows: Rows) -> None:
    shaped, figure = _drawn(rows, "sample", "customer_activity")
    assert shaped.extra["regions"][-1] == "unknown"
    row = len(shaped.extra["regions"]) - 1
    words = [i.get_text() for i in figure.axes[1].texts if i.get_position()[1] == row]
    assert set(words) == {"–"}


def _activity(**columns: Any) -> pd.DataFrame:
    base = {
        "region": "Europe",
        "is_other_region": False,
        "loyalty_tier": "gold",
        "is_other_tier": False,
        "regions": 1,
        "interactions": 100,
        "purchases": 0,
        "customer_months": 50,
        "first_month": "2024-01-01",
        "last_month": "2024-02-01",
    }
    return pd.DataFrame({**base, **columns})


def test_activity_has_no_column_for_customers_nobody_knows() -> None:
    frame = _activity(
        region=["Europe", "Europe", "unknown"],
        loyalty_tier=["gold", "bronze", "unknown"],
    )
    shaped = BY_NAME["customer_activity"].shape(frame)
    assert shaped.extra["tiers"] == ["bronze", "gold"]
    assert shaped.table["loyalty_tier"].nunique() == 3


def test_activity_does_not_compare_what_is_too_small() -> None:
    frame = _activity(
        loyalty_tier=["bronze", "gold", "platinum"],
        interactions=[300, 600, 900],
        customer_months=[100, 100, 10],
    )
    shaped = BY_NAME["customer_activity"].shape(frame)
    assert "gold customers are 2.0 times as active as bronze" in shaped.finding
    assert "fewer than 30 customer-months" in shaped.note
    figure = BY_NAME["customer_activity"].draw(shaped)
    # Bronze and gold have a cell of colour, platinum has its number alone.
    assert len(figure.axes[1].patches) == 2
    assert "90.0" in [item.get_text() for item in figure.axes[1].texts]


def test_activity_names_who_is_folded(rows: Rows) -> None:
    shaped, figure = _drawn(rows, "sixty", "customer_activity")
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert len(labels) == 14
    assert labels[-2].replace("\n", " ") == "48 other regions"
    assert labels[-1] == "All regions"
    assert "other tiers" in set(shaped.table["loyalty_tier"])


def test_activity_does_not_lead_with_the_unknown() -> None:
    frame = _activity(
        region=["unknown", "Europe"], interactions=[60, 40], customer_months=[6, 40]
    )
    found = BY_NAME["customer_activity"].shape(frame).finding
    assert found.startswith("Europe leads the known regions with 40% of 100")


@pytest.mark.parametrize("case", ["sample", "unicode", "one"])
def test_the_first_products_are_the_marts(case: str, rows: Rows, marts: Rows) -> None:
    shaped, figure = _drawn(rows, case, "top_products")
    mart = marts[case]["top_products_by_category_region"]
    top = mart[mart["product_rank"] == 1]
    first = set(zip(top["product_id"], top["revenue"], strict=True))
    best = shaped.table[shaped.table["product_rank"] == 1]
    drawn = [width for axes in range(len(figure.axes)) for width in _bars(figure, axes)]
    assert drawn == best["revenue"].tolist()
    assert set(zip(best["product_id"], best["revenue"], strict=True)) <= first
    assert len(figure.axes) == best["category"].nunique()


def test_a_bar_says_where_else_its_product_leads(rows: Rows, marts: Rows) -> None:
    shaped, figure = _drawn(rows, "sample", "top_products")
    mart = marts["sample"]["top_products_by_category_region"]
    top = mart[mart["product_rank"] == 1]
    led = top.groupby(["category", "product_id"]).size()
    best = shaped.table[shaped.table["product_rank"] == 1]
    for axes in figure.axes:
        own = best[best["category"] == axes.get_label()]
        pairs: list[tuple[Any, Any]] = list(
            zip(own.itertuples(), axes.patches, strict=True)
        )
        for row, bar in pairs:
            assert row.regions_led == led[row.category, row.product_id]
            strong = bar.get_facecolor()[:3] == to_rgb(style.ACCENT)
            assert strong == (row.regions_led > 1)


def test_regions_left_over_share_a_row(rows: Rows, marts: Rows) -> None:
    shaped, _ = _drawn(rows, "sixty", "top_products")
    assert "the top 6 of 25 categories" in shaped.note
    assert "the top 5 of 60 regions and the rest in one" in shaped.note
    mart = marts["sixty"]["top_products_by_category_region"]
    five = mart.groupby("region")["revenue"].sum().nlargest(5).index
    rest = mart[~mart["region"].isin(five)]
    folded = shaped.table[shaped.table["region"] == "55 other regions"]
    assert len(folded) == 6 * 3
    for category, group in folded.groupby("category"):
        own = rest[rest["category"] == category]
        best = own.groupby("product_id")["revenue"].sum().nlargest(3)
        assert group["revenue"].tolist() == pytest.approx(best.tolist())
        assert group["product_id"].tolist() == best.index.tolist()
        share = best.iloc[0] / own["revenue"].sum()
        assert group["share_of_pair"].iloc[0] == pytest.approx(share)


def test_products_without_sales_rank_by_interactions(rows: Rows) -> None:
    frame = rows["sample"]["top_products"].copy()
    for name in ("revenue", "units", "pair_revenue", "total_revenue"):
        frame[name] = 0
    shaped = BY_NAME["top_products"].shape(frame)
    assert shaped.extra["metric"] == "interactions"
    assert "No sales yet" in shaped.note


def test_the_trend_line_is_the_marts_average(rows: Rows, marts: Rows) -> None:
    _, figure = _drawn(rows, "sample", "interaction_trend")
    mart = marts["sample"]["interaction_trend_daily"]
    days = mart.groupby("date_day")[["interactions", "interactions_7d_avg"]].sum()
    lines = {str(line.get_label()): line for line in figure.axes[0].get_lines()}
    # The last day may still be under way: it is faint, and no part of the line.
    assert np.allclose(lines["trend"].get_ydata(), days["interactions_7d_avg"][:-1])
    assert np.allclose(lines["day"].get_ydata(), days["interactions"])
    assert figure.axes[0].get_ylim()[0] == 0
    views = next(axes for axes in figure.axes if axes.get_label() == "view")
    own = mart[mart["interaction_type"] == "view"]["interactions_7d_avg"]
    assert np.allclose(views.get_lines()[0].get_ydata(), own[:-1])


def test_the_last_day_is_not_compared(rows: Rows) -> None:
    frame = rows["sample"]["interaction_trend"].copy()
    last = frame["period"] == frame["period"].max()
    before = BY_NAME["interaction_trend"].shape(frame)
    frame.loc[last, ["interactions", "interactions_7d_avg"]] = 0
    after = BY_NAME["interaction_trend"].shape(frame)
    assert before.extra["ends"] == after.extra["ends"]
    assert before.finding.split(";")[0] == after.finding.split(";")[0]
    assert "15 Oct 2024 may be incomplete" in after.note


def test_a_peak_that_stands_out_is_in_the_finding(rows: Rows) -> None:
    frame = rows["sample"]["interaction_trend"].copy()
    busy = frame["period"].astype(str) == "2023-11-24"
    for name in ("interactions", "interactions_7d_avg"):
        frame[name] = frame[name].astype(float)
        frame.loc[busy, name] *= 9
    finding = BY_NAME["interaction_trend"].shape(frame).finding
    assert re.search(r"the peak was [\d.,]+\sK in Nov 2023", finding), finding


def test_a_decade_keeps_its_total(rows: Rows, marts: Rows) -> None:
    shaped, _ = _drawn(rows, "decade", "interaction_trend")
    table = shaped.table
    total = table[table["interaction_type"] == interaction_trend.ALL]
    mart = marts["decade"]["interaction_trend_daily"]
    assert total["interactions"].sum() == mart["interactions"].sum()
    assert total["days"].sum() == mart["date_day"].nunique()


def test_days_without_rows_count_zero(rows: Rows) -> None:
    frame = rows["tiny"]["interaction_trend"]
    kept = frame[frame["period"].astype(str) != "2024-02-01"]
    table = BY_NAME["interaction_trend"].shape(kept).table
    gap = table[table["period"] == pd.Timestamp("2024-02-01")]
    assert len(gap) == 8
    assert (gap["interactions"] == 0).all()


def test_one_day_is_bars_of_its_types(rows: Rows, marts: Rows) -> None:
    shaped, figure = _drawn(rows, "one", "interaction_trend")
    assert (
        _bars(figure, 0)
        == marts["one"]["interaction_trend_daily"]["interactions"]
        .astype(float)
        .tolist()
    )
    assert "29 Feb 2024" in shaped.finding


@pytest.mark.parametrize("case", ["sample", "sixty", "decade"])
def test_purchase_lines_are_the_marts(case: str, rows: Rows, marts: Rows) -> None:
    shaped, figure = _drawn(rows, case, "purchase_trends")
    mart = marts[case]["purchase_trend_by_category"]
    assert shaped.table["revenue"].sum() == pytest.approx(mart["revenue"].sum())
    months = pd.date_range(
        str(mart["purchase_month"].min()), str(mart["purchase_month"].max()), freq="MS"
    )
    labels = [str(axes.get_label()) for axes in figure.axes]
    assert labels == [purchase_trends.ALL, *shaped.extra["categories"]]
    for axes, label in zip(figure.axes, labels, strict=True):
        own = mart if label == purchase_trends.ALL else mart[mart["category"] == label]
        if own.empty:
            assert label.endswith("other categories")
            continue
        by_month = own.groupby("purchase_month")["revenue"].sum()
        filled = by_month.set_axis(pd.to_datetime(by_month.index)).reindex(
            months, fill_value=0.0
        )
        lines = {str(line.get_label()): line for line in axes.get_lines()}
        assert np.allclose(lines["complete"].get_ydata(), filled.iloc[:-1])
        assert np.allclose(lines["last"].get_ydata(), filled.iloc[-2:])
        assert axes.get_ylim()[0] == 0
        if label != purchase_trends.ALL:
            assert axes.get_yticks().tolist() == pytest.approx([0, filled.max()])


def test_one_month_is_bars_of_its_categories(rows: Rows, marts: Rows) -> None:
    _, figure = _drawn(rows, "tiny", "purchase_trends")
    mart = marts["tiny"]["purchase_trend_by_category"]
    sums = mart.groupby("category")["revenue"].sum()
    assert _bars(figure, 0) == sorted(sums, reverse=True)


def test_purchases_do_not_lead_with_the_unknown() -> None:
    frame = pd.DataFrame(
        {
            "purchase_month": "2024-01-01",
            "category": ["unknown", "Books"],
            "is_other": False,
            "orders": 1,
            "units": 1,
            "revenue": [60.0, 40.0],
            "categories": 2,
        }
    )
    found = purchase_trends.shape(frame).finding
    assert found.startswith("Books brings 40% of 100 revenue, the most of the known")


def test_purchases_compare_whole_months_with_a_year_before() -> None:
    months = pd.date_range("2022-01-01", periods=26, freq="MS")
    frame = pd.DataFrame(
        {
            "purchase_month": [str(moment.date()) for moment in months],
            "category": "Books",
            "is_other": False,
            "orders": 1,
            "units": 1,
            # The last month is barely under way and must not count.
            "revenue": [100.0] * 13 + [150.0] * 12 + [1.0],
            "categories": 1,
        }
    )
    shaped = purchase_trends.shape(frame)
    assert shaped.extra["total"] == (1200.0, 1800.0)
    assert "up 50%" in shaped.finding
    assert "Feb 2024 may be incomplete" in shaped.note


def test_months_without_sales_are_zero(rows: Rows) -> None:
    frame = rows["sample"]["purchase_trends"]
    kept = frame[frame["purchase_month"].astype(str) != "2023-05-01"]
    table = purchase_trends.shape(kept).table
    gap = table[table["purchase_month"] == pd.Timestamp("2023-05-01")]
    assert len(gap) == table["category"].nunique()
    assert (gap["revenue"] == 0).all()


def test_age_bars_and_shares_are_the_marts(rows: Rows, marts: Rows) -> None:
    shaped, figure = _drawn(rows, "sample", "age_interaction")
    mart = marts["sample"]["interaction_by_age"]
    assert sum(_bars(figure, 0)) == mart["interactions"].sum()
    shares = shaped.table.groupby("age_band")["share_of_band"].sum()
    assert np.allclose(shares, 1)
    own = mart[mart["age_band"] == "25-34"]["interactions"]
    views = shaped.table.query("age_band == '25-34' and interaction_type == 'view'")
    assert views["share_of_band"].item() == pytest.approx(own.iloc[0] / own.sum())
    words = [item.get_text() for item in figure.axes[1].texts]
    assert len(words) == len(shaped.table)


def _ages(**mix: list[int]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            (band, kind, 1, made)
            for band, counts in mix.items()
            for kind, made in zip(["view", "purchase", "review"], counts, strict=True)
        ],
        columns=["age_band", "interaction_type", "customers", "interactions"],
    )


def test_the_age_finding_is_the_strongest_cell() -> None:
    frame = _ages(**{"25-34": [800, 100, 50], "65+": [200, 100, 150]})
    found = BY_NAME["age_interaction"].shape(frame).finding
    share = (150 / 450) / (200 / 1400)
    assert found == (
        "Customers aged 25–34 make 68% of 1,400 interactions; those 65 and over "
        f"review {share:.1f} times as often as everybody"
    )


def test_ages_that_do_the_same_are_not_told_apart() -> None:
    frame = _ages(**{"25-34": [800, 100, 100], "65+": [400, 51, 49]})
    found = BY_NAME["age_interaction"].shape(frame).finding
    assert found.endswith("no age does anything much more often than all")
    few = _ages(**{"25-34": [8000, 100, 10], "65+": [400, 51, 20]})
    assert "review" not in BY_NAME["age_interaction"].shape(few).finding


@EVERY
def test_the_csv_is_what_is_drawn(chart: Chart, rows: Rows) -> None:
    shaped = chart.shape(rows["unicode"][chart.name])
    _, files = charts.drawn(chart, shaped)
    read = pd.read_csv(io.BytesIO(files[f"{chart.name}.csv"]))
    assert list(read.columns) == list(shaped.table.columns)
    for name in read.select_dtypes("number").columns:
        assert np.allclose(
            read[name].astype(float), shaped.table[name].astype(float), equal_nan=True
        )


def test_names_with_dollars_stay_letters(rows: Rows) -> None:
    _, figure = _drawn(rows, "unicode", "purchase_trends")
    assert "Ünïcode $5_6$" in [item.get_text() for item in figure.texts]
