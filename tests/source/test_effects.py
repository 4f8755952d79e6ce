"""The five analyses find in the generated shop what the story put there."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from functools import cache

import pandas as pd
import pytest

from source.generate import Size
from tests.source.test_generate import tables

SIZE = Size(5_000, 500, 200_000, 20_000)


@cache
def frames() -> dict[str, pd.DataFrame]:
    return {
        name: table.to_pandas(types_mapper=None) for name, table in tables(SIZE).items()
    }


@cache
def events() -> pd.DataFrame:
    """Interactions with the customer's and the product's attributes."""
    made = frames()
    joined = made["interactions"].merge(made["customers"], on="customer_id", how="left")
    return joined.merge(made["products"], on="product_id", how="left")


def differs(left: int, left_total: int, right: int, right_total: int) -> float:
    """The z score of two shares."""
    pooled = (left + right) / (left_total + right_total)
    spread = math.sqrt(pooled * (1 - pooled) * (1 / left_total + 1 / right_total))
    return (left / left_total - right / right_total) / spread


def test_activity_differs_by_region_and_tier() -> None:
    customers = frames()["customers"]
    per_region = events().groupby("region").size() / customers.groupby("region").size()
    assert per_region["Nordics"] > 1.3 * per_region["Italy"]
    per_tier = (
        events().groupby("loyalty_tier").size()
        / customers.groupby("loyalty_tier").size()
    )
    assert per_tier["bronze"] < per_tier["silver"] < per_tier["gold"]
    assert per_tier["platinum"] > 2 * per_tier["bronze"]


def test_tiers_differ_by_region() -> None:
    customers = frames()["customers"]
    share = pd.crosstab(customers["region"], customers["loyalty_tier"])
    table = {region: share.loc[region].to_dict() for region in share.index}
    north, balkans = table["Nordics"], table["Balkans"]
    assert (
        differs(
            north["gold"],
            sum(north.values()),
            balkans["gold"],
            sum(balkans.values()),
        )
        > 3
    )


def test_platinum_buys_more_of_what_it_sees() -> None:
    bought = events()[events().interaction_type == "purchase"]
    by_tier, all_of = bought.groupby("loyalty_tier").size(), events().groupby("loyalty_tier").size()  # fmt: skip
    assert differs(by_tier["platinum"], all_of["platinum"], by_tier["bronze"], all_of["bronze"]) > 5  # fmt: skip


def test_a_few_products_sell_most_and_regions_have_favourites() -> None:
    sold = Counter(frames()["order_items"]["product_id"])
    top = sum(count for _, count in sold.most_common(50))
    assert 0.3 < top / sum(sold.values()) < 0.8
    bought = events()[events().interaction_type == "purchase"]
    favourites = bought.groupby("region")["product_id"].agg(lambda x: x.mode()[0])
    assert favourites.nunique() >= 3


def test_a_few_customers_do_much() -> None:
    each = events().groupby("customer_id").size().sort_values(ascending=False)
    share = each.head(len(each) // 100).sum() / each.sum()
    assert 0.04 < share < 0.4


def test_november_is_the_peak_and_traffic_grows() -> None:
    months = events().groupby(events().occurred_at.dt.strftime("%Y-%m")).size()
    assert months.idxmax() == "2023-11"
    assert months["2023-11"] > 1.5 * months["2023-09"]
    assert months["2024-09"] > 1.15 * months["2023-09"]


def test_weeks_and_days_have_their_cycle() -> None:
    weekday = events().groupby(events().occurred_at.dt.day_of_week).size()
    assert weekday[5] > 1.1 * weekday[1]
    hour = events().groupby(events().occurred_at.dt.hour).size()
    assert hour[20] > 10 * hour[3]


def test_categories_have_their_season() -> None:
    made = frames()
    lines = (
        made["order_items"]
        .merge(made["orders"], on="order_id")
        .merge(made["products"], on="product_id")
    )
    month = lines.ordered_at.dt.month
    toys = lines.category == "Toys & Games"
    garden = lines.category == "Garden"
    assert differs(
        int((toys & (month == 12)).sum()), int((month == 12).sum()),
        int((toys & (month == 6)).sum()), int((month == 6).sum()),
    ) > 5  # fmt: skip
    assert differs(
        int((garden & (month == 5)).sum()), int((month == 5).sum()),
        int((garden & (month == 11)).sum()), int((month == 11).sum()),
    ) > 5  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "more", "less"),
    [("click", "young", "old"), ("wishlist", "young", "old"), ("search", "old", "young"), ("review", "old", "young")],
)  # fmt: skip
def test_age_matters_to_the_kind_of_interaction(
    kind: str, more: str, less: str
) -> None:
    born = pd.to_datetime(events().birth_date)
    groups = {
        "young": born > pd.Timestamp("2000-01-01"),
        "old": born < pd.Timestamp("1955-01-01"),
    }
    found = {
        name: (
            int((chosen & (events().interaction_type == kind)).sum()),
            int(chosen.sum()),
        )
        for name, chosen in groups.items()
    }
    assert differs(*found[more], *found[less]) > 5


def test_the_funnel_narrows() -> None:
    types = events().interaction_type.value_counts()
    assert types["view"] > types["add_to_cart"] > types["purchase"] > types["review"]
    assert len(types) == 7


def test_the_dirt_is_there_at_its_rates() -> None:
    made, all_of = frames(), events()
    known = set(made["customers"]["customer_id"])
    strangers = (~made["interactions"]["customer_id"].isin(known)).mean()
    assert 0.0003 < strangers < 0.003
    assert 0.02 < made["customers"]["birth_date"].isna().mean() < 0.045
    late = made["interactions"]
    delay = late.recorded_at - late.occurred_at
    assert 0.005 < (delay > pd.Timedelta(hours=1)).mean() < 0.03
    assert (delay > pd.Timedelta(days=3)).any()
    not_search = all_of[all_of.interaction_type != "search"]
    assert 0.001 < not_search.product_id.isna().mean() < 0.01
    assert all_of[all_of.interaction_type == "search"].product_id.isna().all()
    lines = made["order_items"]
    assert (~lines.order_id.isin(set(made["orders"]["order_id"]))).sum() > 0
    assert (~lines.product_id.isin(set(made["products"]["product_id"]))).sum() > 0
    assert (made["products"]["price"] == 0).sum() >= 1 or SIZE.products < 500
    twins = made["customers"].duplicated(["full_name", "email"]).sum()
    assert 3 <= twins <= 40
    content = ["customer_id", "product_id", "interaction_type", "occurred_at"]
    assert made["interactions"].duplicated(content).sum() > 50
    assert any(ord(letter) > 0x370 for name in made["customers"]["full_name"] for letter in name)  # fmt: skip


def test_sessions_are_short_and_whole() -> None:
    spans: dict[bytes, list[pd.Timestamp]] = defaultdict(list)
    for session, moment in zip(
        frames()["interactions"]["session_id"].head(20_000),
        frames()["interactions"]["occurred_at"].head(20_000),
        strict=True,
    ):
        spans[session].append(moment)
    assert 3 < 20_000 / len(spans) < 9
    assert max(max(m) - min(m) for m in spans.values()) < pd.Timedelta(hours=4)
    assert (
        frames()["interactions"].groupby("session_id")["customer_id"].nunique().max()
        == 1
    )
