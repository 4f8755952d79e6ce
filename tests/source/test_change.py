"""A day of change: seen by the cursors, the same for a seed, thirty days long."""

from __future__ import annotations

import datetime as dt
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

from common.errors import UsageError
from common.settings import PROJECT, Settings
from source import csv_load
from source.change import change
from source.generate import Size, generate
from source.tables import TABLES

Query = Callable[..., list[tuple[Any, ...]]]
Counts = Callable[[], dict[str, int]]
SIZE = Size(1_000, 200, 20_000, 2_000, seed=5)
NEXT = dt.date(2024, 10, 16)


@pytest.fixture
def lived(shop: Settings) -> Settings:
    generate(shop, SIZE)
    return shop


def test_a_day_does_everything(lived: Settings, counts: Counts, query: Query) -> None:
    before = counts()
    began = query("SELECT clock_timestamp()")[0][0]
    done = change(lived, None, 0.05, 1)
    assert done.day == NEXT
    assert all(count > 0 for count in done.counts.values()), done.counts
    after = counts()
    told = done.counts
    assert (
        after["orders"]
        == before["orders"] + told["orders added"] - told["orders deleted"]
    )
    assert (
        after["interactions"]
        == before["interactions"]
        + told["interactions added"]
        + (told["late interactions added"])
    )
    assert (
        after["customers"]
        == before["customers"] + told["customers added"] - (told["customers deleted"])
    )
    # Whatever changed is stamped by the server's clock, so that ingest sees it.
    for table in TABLES:
        fresh = query(
            f"SELECT count(*), max({table.cursor}) <= now() FROM {table.name} "
            f"WHERE {table.cursor} >= %s",
            began,
        )
        assert fresh[0][0] > 0
        assert fresh[0][1]
    same_day = query(
        "SELECT count(*) FILTER (WHERE occurred_at::date = %s), "
        "count(*) FILTER (WHERE occurred_at::date < %s) FROM interactions "
        "WHERE recorded_at >= %s",
        NEXT, NEXT, began,
    )  # fmt: skip
    assert same_day[0][0] >= told["interactions added"]
    assert same_day[0][1] > 0
    orders = query(
        "SELECT min(ordered_at)::date, max(ordered_at)::date FROM orders "
        "WHERE order_id > %s",
        SIZE.orders,
    )
    assert orders == [(NEXT, NEXT)]
    signups = query(
        "SELECT DISTINCT signup_at::date FROM customers WHERE customer_id > %s",
        SIZE.customers,
    )
    assert signups == [(NEXT,)]


def test_moves_are_moves(lived: Settings, query: Query) -> None:
    query("CREATE TABLE was AS SELECT * FROM customers")
    done = change(lived, None, 0.1, 1)
    moved = query(
        "SELECT count(*) FILTER (WHERE c.loyalty_tier <> w.loyalty_tier), "
        "count(*) FILTER (WHERE c.region <> w.region) FROM customers c "
        "JOIN was w USING (customer_id)"
    )
    assert moved == [(done.counts["tier moves"], done.counts["region moves"])]
    steps = query(
        "SELECT max(abs(array_position(t, c.loyalty_tier) - array_position(t, w.loyalty_tier)))"
        " FROM customers c JOIN was w USING (customer_id), "
        "(VALUES (array['bronze','silver','gold','platinum'])) v(t)"
    )
    assert steps == [(1,)]


def test_deleted_orders_take_their_lines(lived: Settings, query: Query) -> None:
    orphans = (
        "SELECT count(*) FROM order_items WHERE order_id BETWEEN 0 AND %s AND order_id NOT IN "
        "(SELECT order_id FROM orders)"
    )
    assert query(orphans, SIZE.orders) == [(0,)]
    change(lived, None, 0.2, 1)
    assert query(orphans, SIZE.orders) == [(0,)]


WITHOUT_STAMPS = (
    "SELECT md5(string_agg((to_jsonb(t) - 'updated_at' - 'recorded_at')::text, ' ' "
    "ORDER BY {key})) FROM {table} t"
)


def test_same_seed_same_day_same_change(shop: Settings, query: Query) -> None:
    def life(seed: int) -> list[str]:
        generate(shop, SIZE, replace=True)
        change(shop, None, 0.02, seed)
        change(shop, None, 0.02, seed)
        return [
            query(WITHOUT_STAMPS.format(key=", ".join(t.key), table=t.name))[0][0]
            for t in TABLES
        ]

    first = life(1)
    assert life(1) == first
    assert all(a != b for a, b in zip(life(2), first, strict=True))


def test_thirty_days(lived: Settings, query: Query) -> None:
    days = [change(lived, None, 0.01, 1).day for _ in range(30)]
    assert days == [NEXT + dt.timedelta(day) for day in range(30)]
    busy = query(
        "SELECT count(DISTINCT occurred_at::date) FROM interactions "
        "WHERE occurred_at >= %s",
        NEXT,
    )
    assert busy == [(30,)]
    assert query(
        "SELECT count(*) FROM orders o WHERE NOT EXISTS "
        "(SELECT 1 FROM order_items i WHERE i.order_id = o.order_id)"
    ) == [(0,)]


def test_a_day_told_twice_adds_and_breaks_nothing(lived: Settings) -> None:
    day = dt.date(2024, 6, 1)
    assert change(lived, day, 0.01, 1).day == day
    assert change(lived, day, 0.01, 1).day == day


def test_rate_zero_changes_nothing(
    lived: Settings, contents: Callable[[], dict[str, str]]
) -> None:
    before = contents()
    done = change(lived, None, 0.0, 1)
    assert contents() == before
    assert sum(done.counts.values()) == 0


def test_a_day_by_default_is_like_those_before(lived: Settings, query: Query) -> None:
    """Two weeks go on with the week's cycle: no day stands out, no trend breaks."""
    days = [change(lived, None, None, 1).day for _ in range(14)]
    per_day = {
        row[0]: row[1]
        for row in query(
            "SELECT occurred_at::date, count(*) FROM interactions "
            "WHERE occurred_at >= %s GROUP BY 1",
            NEXT - dt.timedelta(days=28),
        )
    }
    before = sum(per_day[NEXT - dt.timedelta(days=n)] for n in range(1, 29)) / 28
    told = [per_day[day] for day in days]
    assert 0.85 < sum(told) / 14 / before < 1.2
    assert max(told) < 1.5 * before
    assert min(told) > 0.6 * before


def test_a_day_by_default_needs_no_history(shop: Settings, counts: Counts) -> None:
    """Days far from all others, and a shop of customers and products alone."""
    generate(shop, Size(400, 200, 0, 0))
    assert change(shop, None, None, 1).counts["customers added"] == 1
    generate(shop, SIZE, replace=True)
    done = change(shop, dt.date(2020, 2, 29), None, 1)
    assert done.counts["interactions added"] == round(SIZE.interactions / 365)


def test_a_session_is_one_customers_whatever_is_told(
    lived: Settings, query: Query
) -> None:
    """Days in a row, late events and a day told twice have chances of their own."""
    for day in (NEXT, NEXT + dt.timedelta(days=1), NEXT, dt.date(2024, 5, 1)):
        change(lived, day, 0.03, 1)
    assert query(
        "SELECT session_id FROM interactions GROUP BY 1 "
        "HAVING count(DISTINCT customer_id) > 1 "
        "OR max(occurred_at) - min(occurred_at) > interval '4 hours'"
    ) == []  # fmt: skip


def test_no_id_is_given_twice(lived: Settings, query: Query) -> None:
    """Also when the newest customer, product and order are those deleted."""
    keys = {"customers": "customer_id", "products": "product_id", "orders": "order_id"}
    ever: dict[str, dict[int, Any]] = {name: {} for name in keys}
    born = {
        "customers": "signup_at",
        "products": "product_name",
        "orders": "ordered_at",
    }
    for _ in range(4):
        change(lived, None, 0.6, 1)
        for name, key in keys.items():
            for number, since in query(f"SELECT {key}, {born[name]} FROM {name}"):
                assert ever[name].setdefault(number, since) == since


def test_orphans_of_the_past_stay_orphans(lived: Settings, query: Query) -> None:
    """Thirty days of newcomers: who was unknown long ago does not become one."""
    unknown = (
        "SELECT count(*) FROM interactions i WHERE occurred_at < '2024-10-01Z' AND "
        "NOT EXISTS (SELECT 1 FROM customers c WHERE c.customer_id = i.customer_id)"
        " AND i.customer_id <= 0"
    )
    lines = "SELECT count(*) FROM order_items WHERE order_id < 0"
    before = query(unknown), query(lines)
    assert before[0] > [(0,)]
    for _ in range(30):
        change(lived, None, None, 1)
    assert query(unknown) == before[0]
    orders = query("SELECT max(order_id), min(order_id) FROM order_items")[0]
    assert orders[0] < 2 * SIZE.orders
    assert orders[1] < 0 < orders[0]


def test_corrected_mail_addresses_stay_addresses(lived: Settings, query: Query) -> None:
    for _ in range(6):
        change(lived, None, 1.0, 1)
    assert query(
        r"SELECT email FROM customers WHERE email !~ '^[a-z0-9.]+@[a-z.]+\.[a-z]+$'"
    ) == []  # fmt: skip


def test_kill_9_leaves_the_shop_as_it_was(
    lived: Settings, contents: Callable[[], dict[str, str]], query: Query
) -> None:
    before = contents()
    process = subprocess.Popen(
        [sys.executable, "-m", "cli.main", "source", "change", "--rate", "1"],
        cwd=PROJECT,
        env={**os.environ, "ECOM_SOURCE_DSN": str(lived.source_dsn)},
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    try:
        # Row locks of an update show as a transaction id of its own.
        for _ in range(2000):
            if query(
                "SELECT 1 FROM pg_stat_activity WHERE application_name = 'ecom source' "
                "AND datname = current_database() AND backend_xid IS NOT NULL"
            ):
                break
            time.sleep(0.01)
        else:
            raise AssertionError("the change never began")
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert contents() == before


@pytest.mark.parametrize("rate", [-0.1, 1.1, float("nan")])
def test_a_rate_outside_is_refused(lived: Settings, rate: float) -> None:
    with pytest.raises(UsageError):
        change(lived, None, rate, 1)


def test_an_empty_shop_has_nothing_to_change(shop: Settings) -> None:
    done = change(shop, None, 0.5, 1)
    assert sum(done.counts.values()) == 0


def test_a_foreign_shop_can_change(shop: Settings, feed: Any, query: Query) -> None:
    """Regions and categories the story never heard of."""
    csv_load.load_folder(shop, feed())
    query("UPDATE customers SET region = 'Atlantis'")
    done = change(shop, None, 1.0, 1)
    assert done.counts["interactions added"] == 2


def test_before_init_the_fix_is_named(settings: Settings) -> None:
    with pytest.raises(UsageError, match="ecom source init"):
        change(settings, None, 0.01, 1)


def test_a_shop_that_holds_anything_lives_on(lived: Settings, query: Query) -> None:
    """Infinities, NaN and the largest ids are no reason to stop a day."""
    query(
        "INSERT INTO interactions VALUES (9223372036854775807, 9223372036854775807, "
        "NULL, 'view', 'infinity', gen_random_uuid(), 'mobile', now()), "
        "(-5, 1, 2, 'view', '-infinity', gen_random_uuid(), 'mobile', now()), "
        "(-6, 1, 2, 'view', '12000-01-01Z', gen_random_uuid(), 'mobile', now())"
    )
    query(
        "INSERT INTO customers VALUES (9223372036854775807, NULL, NULL, 'infinity', "
        "NULL, NULL, 'infinity', now()), (-7, 'A', 'b', '-infinity', 'Mars', 'tin', "
        "'-infinity', now())"
    )
    query(
        "INSERT INTO products VALUES (9223372036854775807, NULL, NULL, 'NaN', now()), "
        "(-8, 'A', 'B', -3, now())"
    )
    for day in (NEXT, NEXT + dt.timedelta(days=1)):
        done = change(lived, None, 0.05, 1)
        assert done.day == day
        assert done.counts["interactions added"] > 0
        assert done.counts["customers added"] > 0
