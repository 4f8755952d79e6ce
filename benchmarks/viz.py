"""`ecom bench viz`: the charts and the site from marts as large as life makes them.

The marts are written as such, not built from events: a hundred million interactions
leave marts of this size, and only their size matters here.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from common.errors import DataError
from common.progress import say
from common.settings import PROJECT, Settings
from publish.lake import open_lake
from stack.manager import Stack
from viz.site import DOCS

PRODUCT_ROWS = 4_000_000
"""Rows of the largest mart: 400,000 products in 10 regions."""
_REGIONS, _CATEGORIES, _TIERS, _MONTHS, _DAYS = 60, 25, 5, 120, 3_653
_TYPE = "element_at(array('view', 'search', 'click', 'add_to_cart', 'wishlist', 'purchase', 'review'), {0})"
_BAND = "element_at(array('<18', '18-24', '25-34', '35-44', '45-54', '55-64', '65+', 'unknown'), {0})"


def run(settings: Settings, rows: int = 0) -> dict[str, Any]:
    """Measure on a stack of its own.

    Args:
        rows: of the largest mart; `ECOM_BENCH_ROWS` or four million where 0.

    Returns:
        Rows of all marts; seconds of `ecom charts` on an engine that has drawn none
        yet and on a warm one, and of `ecom site`; the greatest resident MiB of those
        commands; MiB of the site without dbt's page.
    """
    rows = rows or int(os.environ.get("ECOM_BENCH_ROWS", PRODUCT_ROWS))
    with tempfile.TemporaryDirectory(prefix="ecom bench ") as folder:
        own = Settings(Path(folder) / "home", None, settings.target)
        stack = Stack(own)
        try:
            stack.up()
            counted = _fill(own, rows)
            return {"mart_rows": counted, **_measure(own, Path(folder) / "out")}
        finally:
            stack.down()


def _fill(own: Settings, rows: int) -> int:
    """Write the five marts; how many rows they have in all."""
    with open_lake(own) as lake:
        lake.rows("CREATE NAMESPACE IF NOT EXISTS marts")
        total = 0
        for name, query in _marts(rows).items():
            say(f"Writing marts.{name}")
            lake.rows(f"CREATE TABLE marts.{name} USING iceberg AS {query}")
            total += int(lake.rows(f"SELECT count(*) FROM marts.{name}")[0][0])
        return total


def _marts(rows: int) -> dict[str, str]:
    """The five marts as queries, skewed towards low numbers as shops are."""
    month = "add_months(date '2015-01-01', cast({0} AS int))"
    places = 10
    return {
        "customer_activity_by_region_tier": f"""
            SELECT {month.format(f"id % {_MONTHS}")} AS activity_month,
                concat('region ', id DIV {_MONTHS} % {_REGIONS}) AS region,
                concat('tier ', id DIV {_MONTHS * _REGIONS}) AS loyalty_tier,
                1000 + id % 977 AS active_customers, 3000 + id % 7919 AS interactions,
                150 + id % 97 AS purchases, cast(3 AS double) AS interactions_per_customer
            FROM range({_MONTHS * _REGIONS * _TIERS})""",
        "top_products_by_category_region": f"""
            SELECT concat('category ', product_id % {_CATEGORIES}) AS category,
                concat('region ', region) AS region, product_id,
                concat('A product with an ordinary name ', product_id) AS product_name,
                units, cast(units * 12.5 AS decimal(18, 2)) AS revenue,
                units * 25 AS interactions,
                row_number() OVER (
                    PARTITION BY product_id % {_CATEGORIES}, region
                    ORDER BY units DESC, product_id) AS product_rank
            FROM (SELECT id DIV {places} AS product_id, id % {places} AS region,
                    pmod(hash(id), 1000) DIV (1 + id % {places}) AS units
                FROM range({rows}))""",
        "interaction_trend_daily": f"""
            SELECT date_add(date '2015-01-01', cast(id DIV 7 AS int)) AS date_day,
                {_TYPE.format("cast(id % 7 AS int) + 1")} AS interaction_type,
                20000 DIV (1 + id % 7) + pmod(hash(id), 900) AS interactions,
                9000 DIV (1 + id % 7) AS active_customers,
                cast(20000 DIV (1 + id % 7) + 450 AS double) AS interactions_7d_avg
            FROM range({_DAYS * 7})""",
        "purchase_trend_by_category": f"""
            SELECT {month.format(f"id % {_MONTHS}")} AS purchase_month,
                concat('category ', id DIV {_MONTHS}) AS category,
                900 + id % 89 AS orders, 1500 + id % 97 AS units,
                cast(60000 + pmod(hash(id), 9000) AS decimal(18, 2)) AS revenue
            FROM range({_MONTHS * _CATEGORIES})""",
        "interaction_by_age": f"""
            SELECT {_BAND.format("cast(id DIV 7 AS int) + 1")} AS age_band,
                {_TYPE.format("cast(id % 7 AS int) + 1")} AS interaction_type,
                40000 + id AS customers, 12500000 DIV (1 + id % 7) AS interactions
            FROM range(56)""",
    }


def _measure(own: Settings, out: Path) -> dict[str, Any]:
    charts = out / "charts"
    first, _ = _timed(own, out, "charts", "--out", str(charts))
    warm, memory = _timed(own, out, "charts", "--out", str(charts))
    site, site_memory = _timed(own, out, "site", "--out", str(out / "site"))
    size = sum(
        path.stat().st_size
        for path in (out / "site").rglob("*")
        if path.is_file() and path.name != DOCS
    )
    return {
        "charts_first_seconds": first,
        "charts_seconds": warm,
        "site_seconds": site,
        "greatest_mib": max(memory, site_memory),
        "site_mib": round(size / 2**20, 1),
    }


def _timed(own: Settings, target: Path, *arguments: str) -> tuple[float, int]:
    """Seconds and greatest resident MiB of a command, start of Python included."""
    environment = {
        **os.environ,
        "ECOM_HOME": str(own.home),
        "DBT_TARGET_PATH": str(target),
    }
    began = time.monotonic()
    with subprocess.Popen(
        [sys.executable, "-m", "cli.main", *arguments],
        cwd=PROJECT, env=environment, stdout=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise DataError(
            f"Measuring `ecom {arguments[0]}`: it ended with {process.returncode}",
            "its own words are above",
        )
    return round(time.monotonic() - began, 2), round(usage.ru_maxrss / 2**10)
