"""Made-up marts of the contract's shape, from nothing to far too much."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import pandas as pd

TYPES = ["view", "search", "click", "add_to_cart", "wishlist", "purchase", "review"]
_BAND_SHARES = [0.03, 0.16, 0.27, 0.21, 0.15, 0.1, 0.06, 0.02]
WEIGHTS = np.array([0.46, 0.16, 0.17, 0.08, 0.05, 0.05, 0.03])
BANDS = ["<18", "18-24", "25-34", "35-44", "45-54", "55-64", "65+", "unknown"]
TIERS = ["bronze", "silver", "gold", "platinum"]
REGIONS = [
    "North America",
    "Europe",
    "Asia Pacific",
    "Latin America",
    "Middle East & Africa",
    "unknown",
]
CATEGORIES = [
    "Electronics",
    "Home & Kitchen",
    "Fashion",
    "Beauty",
    "Sports",
    "Toys",
    "Books",
    "Garden",
    "Grocery",
]
FIRST, LAST = date(2023, 1, 1), date(2024, 10, 15)
Marts = dict[str, pd.DataFrame]


def days(first: date, last: date) -> list[date]:
    """Every day from `first` to `last`."""
    return [first + timedelta(days=n) for n in range((last - first).days + 1)]


def months(first: date, last: date) -> list[date]:
    """The first of every month from `first` to `last`."""
    return sorted({day.replace(day=1) for day in days(first, last)})


def skewed(count: int, rng: np.random.Generator) -> np.ndarray:
    """Weights of a long tail, adding up to one."""
    weights = 1 / np.arange(1, count + 1) ** 0.9 * rng.uniform(0.85, 1.15, count)
    shares: np.ndarray = weights / weights.sum()
    return shares


def make(
    *,
    regions: list[str] | None = None,
    tiers: list[str] | None = None,
    categories: list[str] | None = None,
    products: int = 12,
    first: date = FIRST,
    last: date = LAST,
    scale: float = 1.0,
    product_name: str = "{category} no. {number}",
    seed: int = 7,
) -> Marts:
    """Five marts that hang together, the same for the same arguments.

    Args:
        scale: 1.0 is about 1,500 interactions a day.
        product_name: a format of `category` and `number`.
    """
    rng = np.random.default_rng(seed)
    regions = REGIONS if regions is None else regions
    tiers = TIERS if tiers is None else tiers
    categories = CATEGORIES if categories is None else categories
    return {
        "customer_activity_by_region_tier": _activity(
            rng, regions, tiers, months(first, last), scale
        ),
        "top_products_by_category_region": _products(
            rng, regions, categories, products=products, name=product_name, scale=scale
        ),
        "interaction_trend_daily": _trend(rng, days(first, last), scale),
        "purchase_trend_by_category": _purchases(rng, categories, first, last, scale),
        "interaction_by_age": _ages(rng, scale),
    }


def _activity(
    rng: np.random.Generator,
    regions: list[str],
    tiers: list[str],
    moments: list[date],
    scale: float,
) -> pd.DataFrame:
    rows = []
    shares = skewed(len(regions), rng)
    for month in moments:
        for region, share in zip(regions, shares, strict=True):
            for level, tier in enumerate(tiers):
                active = int(share * 9000 * scale / (level + 1) * rng.uniform(0.9, 1.1))
                made = int(active * (3 + 0.8 * level) * rng.uniform(0.9, 1.1))
                if active:
                    rows.append(
                        (month, region, tier, active, made, made // 20, made / active)
                    )
    return pd.DataFrame(
        rows,
        columns=[
            "activity_month",
            "region",
            "loyalty_tier",
            "active_customers",
            "interactions",
            "purchases",
            "interactions_per_customer",
        ],
    )


def _products(
    rng: np.random.Generator,
    regions: list[str],
    categories: list[str],
    *,
    products: int,
    name: str,
    scale: float,
) -> pd.DataFrame:
    rows = []
    for c, (category, weight) in enumerate(
        zip(categories, skewed(len(categories), rng), strict=True)
    ):
        shares = skewed(products, rng)
        for region, share in zip(regions, skewed(len(regions), rng), strict=True):
            units = (
                shares * weight * share * 4e5 * scale * rng.uniform(0.6, 1.6, products)
            ).astype(int)
            revenue = np.round(units * (5 + 7 * c + np.arange(products)), 2)
            order = np.lexsort((np.arange(products), -units * 20, -revenue))
            for rank, n in enumerate(order, 1):
                rows.append(
                    (
                        category,
                        region,
                        c * 1000 + int(n),
                        name.format(category=category, number=n + 1),
                        int(units[n]),
                        float(revenue[n]),
                        int(units[n] * 20),
                        rank,
                    )
                )
    return pd.DataFrame(
        rows,
        columns=[
            "category",
            "region",
            "product_id",
            "product_name",
            "units",
            "revenue",
            "interactions",
            "product_rank",
        ],
    )


def _trend(rng: np.random.Generator, moments: list[date], scale: float) -> pd.DataFrame:
    parts = []
    grown = 1 + np.arange(len(moments)) / max(len(moments), 400)
    season = np.array([1 + 0.35 * (day.month in (11, 12)) for day in moments])
    week = np.array([0.82 if day.weekday() >= 5 else 1.0 for day in moments])
    for kind, weight in zip(TYPES, WEIGHTS, strict=True):
        mean = 1500 * scale * weight * grown * season * week
        made = pd.Series(rng.poisson(mean))
        parts.append(
            pd.DataFrame(
                {
                    "date_day": moments,
                    "interaction_type": kind,
                    "interactions": made,
                    "active_customers": (made * 0.8).astype(int),
                    "interactions_7d_avg": made.rolling(7, min_periods=1).mean(),
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def _purchases(
    rng: np.random.Generator,
    categories: list[str],
    first: date,
    last: date,
    scale: float,
) -> pd.DataFrame:
    rows = []
    moments = months(first, last)
    shares = skewed(len(categories), rng)
    for n, month in enumerate(moments):
        part = last.day / 31 if month == last.replace(day=1) else 1.0
        season = 1.4 if month.month in (11, 12) else 1.0
        for c, (category, share) in enumerate(zip(categories, shares, strict=True)):
            trend = 1 + n * (0.03 - 0.007 * c)
            units = int(
                9000 * scale * share * part * season * trend * rng.uniform(0.9, 1.1)
            )
            if units > 0:
                rows.append((month, category, units // 2 + 1, units, units * 37.5))
    return pd.DataFrame(
        rows, columns=["purchase_month", "category", "orders", "units", "revenue"]
    )


def _ages(rng: np.random.Generator, scale: float) -> pd.DataFrame:
    rows = []
    for band, share in zip(BANDS, _BAND_SHARES, strict=True):
        tilt = rng.uniform(0.75, 1.3, len(TYPES))
        for kind, weight in zip(TYPES, WEIGHTS * tilt, strict=True):
            made = int(9e5 * scale * share * weight)
            if made:
                rows.append((band, kind, made // 9 + 1, made))
    return pd.DataFrame(
        rows, columns=["age_band", "interaction_type", "customers", "interactions"]
    )


_MEASURES = {
    "active_customers",
    "interactions",
    "purchases",
    "interactions_per_customer",
    "units",
    "revenue",
    "interactions_7d_avg",
    "orders",
    "customers",
}


def zeroed(frame: pd.DataFrame) -> pd.DataFrame:
    """The same rows with every measure at zero."""
    made = frame.copy()
    for name in _MEASURES & set(made.columns):
        made[name] = made[name].to_numpy().dtype.type(0)
    return made
