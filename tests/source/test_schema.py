"""The schema is the contract's, init repeats safely, ingest's role only reads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import psycopg2
import pytest

from common.errors import DataError, ServiceError, UsageError
from common.settings import Settings
from source import schema
from source.database import connect
from stack.endpoints import source_dsn
from stack.postgres import Postgres

Query = Callable[..., list[tuple[Any, ...]]]

CONTRACT = {
    "customers": "customer_id bigint, full_name text, email text, birth_date date, "
    "region text, loyalty_tier text, signup_at timestamp with time zone, "
    "updated_at timestamp with time zone",
    "products": "product_id bigint, product_name text, category text, "
    "price numeric(12,2), updated_at timestamp with time zone",
    "orders": "order_id bigint, customer_id bigint, ordered_at timestamp with time zone, "
    "status text, updated_at timestamp with time zone",
    "order_items": "order_id bigint, line_number integer, product_id bigint, "
    "quantity integer, unit_price numeric(12,2), updated_at timestamp with time zone",
    "interactions": "interaction_id bigint, customer_id bigint, product_id bigint, "
    "interaction_type text, occurred_at timestamp with time zone, session_id uuid, "
    "device text, recorded_at timestamp with time zone",
}
CUSTOMER = (
    "INSERT INTO customers VALUES (1, 'A', 'a@example.com', NULL, 'Nordics', 'gold', "
    "'2023-01-01Z', '2023-01-02Z')"
)


def test_the_tables_are_the_contracts(shop: Settings, query: Query) -> None:
    for table, columns in CONTRACT.items():
        found = query(
            "SELECT string_agg(attname || ' ' || format_type(atttypid, atttypmod), ', ' "
            "ORDER BY attnum) FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0",
            table,
        )
        assert found == [(columns,)]


def test_each_cursor_has_an_index_and_each_table_its_key(
    shop: Settings, query: Query
) -> None:
    found = {row[0] for row in query("SELECT indexdef FROM pg_indexes")}
    for table, cursor in [(t, "recorded_at" if t == "interactions" else "updated_at") for t in CONTRACT]:  # fmt: skip
        assert any(f"ON public.{table} USING btree ({cursor})" in one for one in found)
        assert any(f"UNIQUE INDEX {table}_pkey" in one for one in found)


def test_real_dirt_fits_in(shop: Settings, query: Query) -> None:
    query("INSERT INTO orders VALUES (1, NULL, NULL, 'teleported', now())")
    query("INSERT INTO order_items VALUES (9, 1, 77, -3, -1.00, now())")
    assert query("SELECT count(*) FROM orders, order_items") == [(1,)]


def test_init_again_changes_nothing(shop: Settings, query: Query) -> None:
    query(CUSTOMER)
    again = schema.init(shop)
    assert again.created == []
    assert len(again.present) == 5
    assert query("SELECT count(*) FROM customers") == [(1,)]


def test_init_mends_a_lost_index(shop: Settings, query: Query) -> None:
    query("DROP INDEX orders_updated_at_idx")
    schema.init(shop)
    found = query("SELECT 1 FROM pg_indexes WHERE indexname = 'orders_updated_at_idx'")
    assert found == [(1,)]


def test_init_mends_a_table_that_lacks_key_default_and_trigger(
    settings: Settings, query: Query
) -> None:
    query(f"CREATE TABLE orders ({CONTRACT['orders']}, note text)")
    query("INSERT INTO orders VALUES (1, 1, now(), 'paid', '2023-01-01Z', 'mine')")
    done = schema.init(settings)
    assert done.present == ["orders"]
    query("INSERT INTO orders (order_id, status) VALUES (2, 'paid')")
    with pytest.raises(psycopg2.errors.UniqueViolation):
        query("INSERT INTO orders (order_id) VALUES (1)")
    query("UPDATE orders SET status = 'shipped' WHERE order_id = 1")
    assert query(
        "SELECT note, now() - updated_at < '1 min' FROM orders ORDER BY order_id"
    ) == [("mine", True), (None, True)]


@pytest.mark.parametrize(
    ("made", "says"),
    [
        ("CREATE TABLE orders ({}, PRIMARY KEY (customer_id))", "primary key"),
        ("CREATE TABLE orders ({}); INSERT INTO orders SELECT 1, 1, now(), 'paid', "
         "now() FROM generate_series(1, 2)", "order_id"),
        ("CREATE VIEW orders AS SELECT 1 AS order_id", "customer_id"),
    ],
)  # fmt: skip
def test_init_refuses_what_it_cannot_mend_and_leaves_it(
    settings: Settings, query: Query, made: str, says: str
) -> None:
    query(made.format(CONTRACT["orders"]))
    with pytest.raises(DataError, match=says):
        schema.init(settings)
    assert query("SELECT to_regclass('customers')") == [(None,)]


def test_init_refuses_a_table_of_another_shape(
    settings: Settings, query: Query
) -> None:
    query("CREATE TABLE orders (order_id bigint PRIMARY KEY, total numeric)")
    with pytest.raises(DataError, match="orders exists without customer_id bigint"):
        schema.init(settings)
    assert query("SELECT to_regclass('customers')") == [(None,)]


def test_an_update_stamps_the_row(shop: Settings, query: Query) -> None:
    query(CUSTOMER)
    assert query("SELECT updated_at::date::text FROM customers") == [("2023-01-02",)]
    query("UPDATE customers SET region = 'Iberia'")
    assert query("SELECT now() - updated_at < interval '1 minute' FROM customers") == [
        (True,)
    ]


def test_an_update_cannot_forge_the_stamp(shop: Settings, query: Query) -> None:
    query(CUSTOMER)
    query("UPDATE customers SET region = 'Iberia', updated_at = '2030-01-01Z'")
    assert query("SELECT updated_at <= now() FROM customers") == [(True,)]


def test_an_update_that_changes_nothing_is_none(shop: Settings, query: Query) -> None:
    query(CUSTOMER)
    query("UPDATE customers SET region = region")
    assert query("SELECT updated_at::date::text FROM customers") == [("2023-01-02",)]


def test_a_row_without_stamp_gets_now(shop: Settings, query: Query) -> None:
    query("INSERT INTO products (product_id) VALUES (1)")
    assert query("SELECT now() - updated_at < interval '1 minute' FROM products") == [
        (True,)
    ]


def test_ingest_reads_and_does_nothing_else(shop: Settings) -> None:
    owner = str(shop.source_dsn)
    reader = source_dsn(replace(shop, source_dsn=None), "ingest")
    reader = reader.rpartition("/")[0] + "/" + owner.rpartition("/")[2]
    connection = psycopg2.connect(reader)
    cursor = connection.cursor()
    for table in CONTRACT:
        cursor.execute(f"SELECT count(*) FROM {table}")
    cursor.execute("SELECT pg_has_role('pg_read_all_stats', 'usage')")
    assert cursor.fetchone() == (True,)
    for statement in (
        "INSERT INTO products (product_id) VALUES (1)",
        "UPDATE products SET price = 1",
        "DELETE FROM products",
        "TRUNCATE products",
        "CREATE TABLE t (a int)",
    ):
        connection.rollback()
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            cursor.execute(statement)
    connection.close()


def test_a_role_of_the_users_own_is_made_where_allowed(
    server: Postgres, settings: Settings, query: Query
) -> None:
    notes = schema.init(settings, reader='so"me').notes
    assert any('CREATE ROLE "so""me" LOGIN' in note for note in notes)
    administrator = str(settings.source_dsn).replace(
        source_dsn(replace(settings, source_dsn=None), "owner").split("@")[0],
        f"postgresql://postgres:{server.home.secret('postgres_postgres')}",
    )
    as_administrator = replace(settings, source_dsn=administrator)
    made = schema.init(as_administrator, reader="someone").notes
    assert any('\\password "someone"' in note for note in made)
    assert schema.init(as_administrator, reader="someone").notes == []
    rights = query(
        "SELECT has_table_privilege('someone', 'orders', 'SELECT'), "
        "has_table_privilege('someone', 'orders', 'INSERT'), "
        "pg_has_role('someone', 'pg_read_all_stats', 'usage'), "
        "(SELECT rolsuper OR rolcreatedb OR rolcreaterole FROM pg_roles "
        "WHERE rolname = 'someone')"
    )
    assert rights == [(True, False, True, False)]


def test_two_commands_at_once_are_refused(shop: Settings) -> None:
    first = connect(shop)
    schema.lock_shop(first.cursor())
    with pytest.raises(DataError, match="another `ecom source` command"):
        schema.init(shop)
    first.close()


def test_a_dead_source_is_exit_3_and_shows_no_secret() -> None:
    settings = Settings.from_environment()
    dead = replace(settings, source_dsn="postgresql://u:hush@127.0.0.1:1/shop")
    with pytest.raises(ServiceError) as caught:
        schema.init(dead)
    assert "127.0.0.1:1/shop" in str(caught.value)
    assert "hush" not in str(caught.value)


def test_a_wrong_password_is_exit_2_and_shows_no_secret(settings: Settings) -> None:
    head, _, tail = str(settings.source_dsn).partition("@")
    wrong = replace(settings, source_dsn=head.rpartition(":")[0] + ":hush@" + tail)
    with pytest.raises(UsageError) as caught:
        schema.init(wrong)
    assert "hush" not in str(caught.value)


def test_no_address_at_all_is_exit_2() -> None:
    wrong = replace(Settings.from_environment(), source_dsn="postgresql://:::/")
    with pytest.raises(UsageError):
        schema.init(wrong)
