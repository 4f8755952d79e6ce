"""Source, staging, facts and marts agree, each counted by its own engine.

What the marts must hold is computed here in PostgreSQL's SQL, from the source, and
shares no text with the models.
"""

from __future__ import annotations

import json
import signal
from typing import Any

import psycopg2

from common.settings import Settings
from publish.in_home import describe
from publish.lake import Lake
from stack.endpoints import source_dsn
from tests.conftest import ecom
from tests.end_to_end.run_process import a_reader, cut_off, dbt_of, shown

Rows = list[tuple[Any, ...]]
REJECTED = (
    "SELECT record_key FROM core.rejected_records WHERE source_table = 'interactions'"
)

SOUND = (
    "occurred_at IS NOT NULL AND interaction_type IN "
    "('view','search','click','add_to_cart','wishlist','purchase','review')"
)
SALES = (
    "FROM order_items i JOIN orders o USING (order_id) "
    "LEFT JOIN products p USING (product_id) "
    "WHERE o.status NOT IN ('cancelled', 'returned') AND i.quantity > 0 AND i.unit_price >= 0"
)
# Name -> (PostgreSQL on the source, Spark on the warehouse): the rows must be equal.
IDENTITIES = {
    "staged customers": (
        "SELECT count(*), sum(customer_id) FROM customers",
        "SELECT count(*), sum(customer_id) FROM staging.customers WHERE _cdc_deleted_at IS NULL",
    ),
    "staged orders": (
        "SELECT count(*), sum(order_id) FROM orders",
        "SELECT count(*), sum(order_id) FROM staging.orders WHERE _cdc_deleted_at IS NULL",
    ),
    "interactions loaded": (
        f"SELECT count(*), sum(interaction_id) FROM interactions WHERE {SOUND}",
        "SELECT count(*), sum(interaction_id) FROM core.fct_interactions",
    ),
    "order lines loaded": (
        "SELECT count(*), sum(i.quantity), sum(i.quantity * i.unit_price) FROM order_items i "
        "JOIN orders o USING (order_id) WHERE i.quantity > 0 AND i.unit_price >= 0",
        "SELECT count(*), sum(quantity), sum(revenue) FROM core.fct_order_items",
    ),
    "current customers by region and tier": (
        "SELECT region, loyalty_tier, count(*) FROM customers GROUP BY 1, 2 ORDER BY 1, 2",
        "SELECT region, loyalty_tier, count(*) FROM core.dim_customer WHERE is_current "
        "AND NOT is_deleted AND customer_id <> -1 GROUP BY 1, 2 ORDER BY 1, 2",
    ),
    "trend by day and type": (
        f"SELECT (occurred_at AT TIME ZONE 'UTC')::date::text, interaction_type, count(*) "
        f"FROM interactions WHERE {SOUND} GROUP BY 1, 2 ORDER BY 1, 2",
        "SELECT cast(date_day AS string), interaction_type, interactions "
        "FROM marts.interaction_trend_daily WHERE interactions > 0 ORDER BY 1, 2",
    ),
    "activity by month": (
        f"SELECT date_trunc('month', occurred_at AT TIME ZONE 'UTC')::date::text, count(*), "
        f"count(*) FILTER (WHERE interaction_type = 'purchase') "
        f"FROM interactions WHERE {SOUND} GROUP BY 1 ORDER BY 1",
        "SELECT cast(activity_month AS string), sum(interactions), sum(purchases) "
        "FROM marts.customer_activity_by_region_tier GROUP BY 1 ORDER BY 1",
    ),
    "purchases by month and category": (
        "SELECT date_trunc('month', o.ordered_at AT TIME ZONE 'UTC')::date::text, "
        "coalesce(p.category, 'unknown'), count(DISTINCT o.order_id), sum(i.quantity), "
        f"sum(i.quantity * i.unit_price) {SALES} GROUP BY 1, 2 ORDER BY 1, 2",
        "SELECT cast(purchase_month AS string), category, orders, units, revenue "
        "FROM marts.purchase_trend_by_category ORDER BY 1, 2",
    ),
    "interactions by type, all ages": (
        f"SELECT interaction_type, count(*) FROM interactions WHERE {SOUND} "
        "GROUP BY 1 ORDER BY 1",
        "SELECT interaction_type, sum(interactions) FROM marts.interaction_by_age "
        "WHERE interactions > 0 GROUP BY 1 ORDER BY 1",
    ),
}  # fmt: skip


def in_source(settings: Settings, query: str) -> Rows:
    connection = psycopg2.connect(source_dsn(settings, "owner"))
    with connection, connection.cursor() as cursor:
        cursor.execute(query)
        rows = cursor.fetchall()
    connection.close()
    return rows


def execute(settings: Settings, *statements: str) -> None:
    connection = psycopg2.connect(source_dsn(settings, "owner"))
    with connection, connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
    connection.close()


def assert_all_agree(settings: Settings, lake: Lake) -> None:
    for name, (source, warehouse) in IDENTITIES.items():
        expected, found = in_source(settings, source), lake.rows(warehouse)
        assert expected, name
        assert [tuple(row) for row in found] == expected, name
    assert_star_is_whole(lake)


def assert_star_is_whole(lake: Lake) -> None:
    """Loaded and rejected make up what is staged; every key finds its dimension row."""
    for table, fact in (
        ("interactions", "core.fct_interactions"),
        ("order_items", "core.fct_order_items"),
    ):
        row = lake.rows(
            f"SELECT (SELECT count(*) FROM staging.{table} WHERE _cdc_deleted_at IS NULL), "
            f"(SELECT count(*) FROM {fact}) + (SELECT count(*) FROM core.rejected_records "
            f"WHERE source_table = '{table}')"
        )[0]
        assert row[0] == row[1], table
    for fact, moment in (
        ("core.fct_interactions", "occurred_at"),
        ("core.fct_order_items", "ordered_at"),
    ):
        wrong = lake.rows(
            f"SELECT count(*) FROM {fact} f JOIN core.dim_customer d "
            f"ON d.customer_id = f.customer_id AND f.{moment} >= d.valid_from "
            f"AND f.{moment} < d.valid_to WHERE d.customer_key <> f.customer_key"
        )
        assert wrong == [(0,)], fact


def test_a_first_run_brings_the_source_to_the_marts(
    stack_settings: Settings, lake: Lake
) -> None:
    assert_all_agree(stack_settings, lake)
    ecom(stack_settings, "reconcile")


NEWEST_RUN = "SELECT result, phases FROM ops.runs ORDER BY started_at DESC LIMIT 1"
KILLED = (
    ("ingest", "Ingesting interactions"),
    ("build", "START test assert_"),
    ("publish", "Moving .* tables to audit_"),
    ("charts", "Drawing the charts"),
)
"""Phase, and the line of the run's own at which it is killed; each run takes over
from the one before. Reconcile and docs are killed where two publishes are taken back."""


def test_a_day_of_change_reaches_the_marts_through_kills(
    stack_settings: Settings, lake: Lake
) -> None:
    ecom(stack_settings, "source", "change", "--rate", "0.02")
    moved, gone = in_source(
        stack_settings,
        "SELECT min(customer_id), max(customer_id) FILTER (WHERE customer_id <= 700) FROM customers",
    )[0]
    order = in_source(
        stack_settings,
        "SELECT min(order_id) FROM orders JOIN order_items USING (order_id)",
    )[0][0]
    late = 99_000_001
    execute(
        stack_settings,
        f"UPDATE customers SET region = 'Moved There' WHERE customer_id = {moved}",
        f"DELETE FROM customers WHERE customer_id = {gone}",
        f"DELETE FROM orders WHERE order_id = {order}",
        f"DELETE FROM order_items WHERE order_id = {order}",
        "INSERT INTO interactions (interaction_id, customer_id, interaction_type, "
        "occurred_at, session_id, device, recorded_at) VALUES "
        f"({late}, {moved}, 'view', '2024-07-01 12:00+00', gen_random_uuid(), 'web', now())",
    )
    before = shown(lake)
    with a_reader(stack_settings) as watched:
        for phase, line in KILLED:
            code, _ = cut_off(stack_settings, line)
            assert code == -signal.SIGKILL
            [newest, *_] = describe(stack_settings)
            assert newest.endswith(f"killed in {phase}"), newest
            if phase in ("ingest", "build"):
                assert shown(lake) == before
            if phase == "publish":
                assert "completes or undoes it" in ecom(stack_settings, "status")
    assert watched.answers > len(KILLED)
    assert max(map(len, watched.seen.values())) == 2, "one publish, so two states"
    versions = lake.rows(
        f"SELECT region, is_current FROM core.dim_customer WHERE customer_id = {moved} "
        "ORDER BY valid_from"
    )
    assert len(versions) >= 2
    assert versions[-1] == ("Moved There", True)
    assert lake.rows(
        f"SELECT cast(date_key AS int) FROM core.fct_interactions WHERE interaction_id = {late}"
    ) == [(20240701,)]
    assert lake.rows(
        f"SELECT count(*) FROM core.fct_order_items WHERE order_id = {order}"
    ) == [(0,)]
    assert lake.rows(
        f"SELECT count(*) FROM core.dim_customer WHERE customer_id = {gone} "
        "AND is_current AND is_deleted"
    ) == [(1,)]
    assert_all_agree(stack_settings, lake)


def test_a_run_with_nothing_new_changes_nothing(
    stack_settings: Settings, lake: Lake
) -> None:
    lake.rows("CREATE TABLE marts.no_model USING iceberg AS SELECT 1 AS n")
    tables = [
        *lake.tables(),
        *(
            f"staging.{t}"
            for t in ("customers", "products", "orders", "order_items", "interactions")
        ),
    ]
    before = lake.heads(tables)
    # The build's own bookkeeping is no data: a reader has nothing to see in it.
    seen = [table for table in lake.tables() if table != "core.build_state"]
    contents = {table: fingerprint(lake, table) for table in seen}
    drawn = stack_settings.home.parent / "target" / "charts"
    first = json.loads(ecom(stack_settings, "run", "--json"))
    assert {path.stem for path in drawn.glob("*.png")} == {
        "customer_activity", "top_products", "interaction_trend", "purchase_trends",
        "age_interaction",
    }  # fmt: skip
    assert list(first["phases"])[-3:] == ["docs", "charts", "site"], "one was killed"
    assert_all_agree(stack_settings, lake)
    assert {table: fingerprint(lake, table) for table in contents} == contents
    after = lake.heads(tables)
    for table in tables:
        if table.startswith("staging."):
            assert after[table]["main"] == before[table]["main"], table
    # A table that no model makes is named, stays, and goes only when that is said.
    assert "no model makes marts.no_model any more" in ecom(stack_settings, "status")
    refused = ecom(
        stack_settings, "maintain", "--drop", "core.dim_date", "--yes", code=2
    )
    assert "a model makes it" in refused
    ecom(stack_settings, "maintain", "--drop", "marts.no_model", "--yes")
    assert "marts.no_model" not in lake.tables()
    assert "no model" not in ecom(stack_settings, "status")


def fingerprint(lake: Lake, table: str) -> Rows:
    """Rows and an order-independent hash of all their columns."""
    columns = [
        row[0]
        for row in lake.rows(f"DESCRIBE {table}")
        if row[0] and not row[0].startswith("#")
    ]
    kept = dict.fromkeys(
        c
        for c in columns
        if c not in ("built_at", "invocation_id") and not c.startswith("Part ")
    )
    hashed = ", ".join(f"`{column}`" for column in kept)
    return lake.rows(
        f"SELECT count(*), sum(cast(xxhash64({hashed}) AS decimal(38,0))) FROM {table}"
    )


def test_rollback_gives_back_the_previous_publish(
    stack_settings: Settings, lake: Lake
) -> None:
    tables = (
        "core.dim_customer",
        "core.fct_interactions",
        "marts.interaction_trend_daily",
    )
    before = {table: fingerprint(lake, table) for table in tables}
    execute(
        stack_settings,
        "INSERT INTO interactions (interaction_id, customer_id, interaction_type, occurred_at, "
        "session_id, device, recorded_at) SELECT 99100000 + i, 1, "
        "CASE i WHEN 50 THEN 'teleport' ELSE 'view' END, "
        "'2024-07-02 12:00+00', gen_random_uuid(), 'web', now() FROM generate_series(1, 50) i",
    )
    code, _ = cut_off(stack_settings, "Comparing products")
    assert code == -signal.SIGKILL
    assert describe(stack_settings)[0].endswith("killed in reconcile")
    assert ("99100050",) in lake.rows(REJECTED), "a bad row must not stop the rest"
    published = {table: fingerprint(lake, table) for table in tables}
    assert published["core.fct_interactions"] != before["core.fct_interactions"]
    ecom(stack_settings, "rollback")
    assert ("99100050",) not in lake.rows(REJECTED)
    assert {table: fingerprint(lake, table) for table in tables} == before
    code, _ = cut_off(stack_settings, "Building catalog")
    assert code == -signal.SIGKILL
    assert describe(stack_settings)[0].endswith("killed in docs")
    assert {table: fingerprint(lake, table) for table in tables} == published
    assert_all_agree(stack_settings, lake)
    readers = shown(lake)
    code, printed = cut_off(
        stack_settings, "OK .* model core.dim", "--full-refresh", by=signal.SIGINT
    )
    assert (code, shown(lake)) == (130, readers), printed[-3000:]
    assert not dbt_of(stack_settings)
    assert describe(stack_settings)[0].endswith("interrupted in build")
    assert lake.rows(NEWEST_RUN)[0][0] == "interrupted"
    # What a build remembers went back too: a build from nothing gives the same.
    ecom(stack_settings, "run", "--full-refresh", "--hold")
    ecom(stack_settings, "publish")
    assert {table: fingerprint(lake, table) for table in tables} == published
    [(result, phases)] = lake.rows(NEWEST_RUN)
    assert (result, list(json.loads(phases))) == ("success", ["publish"])


def test_a_backfill_mends_its_days_through_the_door(
    stack_settings: Settings, lake: Lake
) -> None:
    tables = [table for table in lake.tables() if table != "core.build_state"]
    sound = {table: fingerprint(lake, table) for table in tables}
    day = "occurred_at >= '2024-07-02' AND occurred_at < '2024-07-03'"
    for damage in (
        f"DELETE FROM core.fct_interactions WHERE {day} AND interaction_id > 99100000",
        f"UPDATE core.fct_interactions SET device = 'fax' WHERE {day}",
        "DELETE FROM marts.interaction_trend_daily WHERE date_day = '2024-07-02'",
    ):
        lake.rows(damage)
    spoilt = {table for table in tables if fingerprint(lake, table) != sound[table]}
    assert spoilt == {"core.fct_interactions", "marts.interaction_trend_daily"}
    newer = 99_200_000
    execute(
        stack_settings,
        "INSERT INTO interactions (interaction_id, customer_id, interaction_type, occurred_at, "
        f"session_id, device, recorded_at) VALUES ({newer}, 1, 'view', '2024-07-02 13:00+00', "
        "gen_random_uuid(), 'web', now())",
    )
    days = ("--event-time-start", "2024-07-02", "--event-time-end", "2024-07-03")
    backwards = ("--event-time-start", "2024-07-03", "--event-time-end", "2024-07-02")
    for wrong in (days[:2], days[2:], backwards, (*days, "--full-refresh")):
        assert "A backfill needs" in ecom(stack_settings, "run", *wrong, code=2)
    report = json.loads(ecom(stack_settings, "run", *days, "--json"))
    assert "ingest" not in report["phases"]
    assert {table: fingerprint(lake, table) for table in tables} == sound
    # Killed when all is done but the site, the run is a success, and is remembered so.
    code, _ = cut_off(stack_settings, r"^Writing \.\.\.")
    assert code == -signal.SIGKILL
    assert describe(stack_settings)[0].endswith("success in site")
    assert (
        list(json.loads(ecom(stack_settings, "run", "--json"))["phases"])[-1] == "site"
    )
    assert lake.rows(
        f"SELECT count(*) FROM core.fct_interactions WHERE interaction_id = {newer}"
    ) == [(1,)]
    assert_all_agree(stack_settings, lake)
