"""The generated shop: exact, the same everywhere, whole or not at all."""

from __future__ import annotations

import datetime as dt
import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import psycopg2
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import settings as effort
from hypothesis import strategies as st

from common.errors import DataError, UsageError
from common.settings import PROJECT, Settings
from source import generate, story
from source.arrow import compute as pc
from source.bulk import encode
from source.generate import Size, parts
from source.tables import TABLES
from source.timeline import DAY
from tests.meanwhile import meanwhile

Query = Callable[..., list[tuple[Any, ...]]]
Counts = Callable[[], dict[str, int]]
Contents = Callable[[], dict[str, str]]
DAY_1 = dt.date(2024, 2, 29)
SMALL = Size(300, 60, 8_000, 700, seed=7)
# SHA-256 of the COPY bytes of SMALL: the same on every machine, or this test fails.
GOLDEN = {
    "customers": "822a68b102d4edf09ac55f373a6a09350a24cbc7678d583af2efd8f8ef68481e",
    "products": "d0e4dbd4b92a771ad921b4900d2a4477c0013114c63d481271518fbfca9ef420",
    "orders": "3b5a4dabf8d1ecb4242350529787c1451b2c6bc176e845c7f7609f746da75e32",
    "order_items": "34c800af633604fa40c7290c978e877725d8e31ca34f5adadc5f65262972a565",
    "interactions": "d3c3294f73fbc2bcae5d8142720ed848dcb8043743358d16da22be24f94f325c",
}

SIZES = st.builds(
    Size,
    customers=st.integers(1, 400),
    products=st.integers(1, 80),
    interactions=st.integers(0, 3_000),
    orders=st.integers(0, 400),
    days=st.sampled_from(
        [
            (dt.date(2023, 1, 1), dt.date(2024, 10, 15)),
            (dt.date(2024, 2, 29), dt.date(2024, 2, 29)),
            (dt.date(2022, 12, 31), dt.date(2023, 1, 1)),
        ]
    ),
    seed=st.integers(-(2**40), 2**70),
)


def tables(size: Size) -> dict[str, pa.Table]:
    """A whole small shop in memory."""
    made: dict[str, list[pa.RecordBatch]] = {table.name: [] for table in TABLES}
    for part in parts(size):
        made[part.table.name] += list(part.batches(lambda rows: None))
    return {
        table.name: pa.Table.from_batches(made[table.name], table.schema)
        for table in TABLES
    }


def numbers(table: pa.Table, name: str) -> np.ndarray[Any, Any]:
    """A column as numbers; times as microseconds."""
    return np.asarray(table[name].cast(pa.int64()))


@effort(max_examples=60, deadline=None)
@given(SIZES)
def test_every_shop_keeps_its_promises(size: Size) -> None:
    made = tables(size)
    assert made["customers"].num_rows == size.customers
    assert made["products"].num_rows == size.products
    assert made["orders"].num_rows == size.orders
    assert made["interactions"].num_rows == size.interactions
    start, end = (
        int(dt.datetime.combine(day, dt.time(), dt.timezone.utc).timestamp()) * 10**6
        for day in (size.days[0], size.days[1] + dt.timedelta(1))
    )
    for table in TABLES:
        rows = made[table.name]
        keys = list(zip(*(rows[name].to_pylist() for name in table.key), strict=True))
        assert len(set(keys)) == len(keys)
        assert (numbers(rows, table.cursor) < end).all()
        for column in table.columns:
            if not column.nullable:
                assert rows[column.name].null_count == 0
            if column.allowed:
                assert set(rows[column.name].to_pylist()) <= set(column.allowed)
    occurred = numbers(made["interactions"], "occurred_at")
    assert ((occurred >= start) & (occurred < end)).all()
    assert (numbers(made["interactions"], "recorded_at") >= occurred).all()
    ordered = numbers(made["orders"], "ordered_at")
    assert ((ordered >= start) & (ordered < end)).all()
    assert (numbers(made["orders"], "updated_at") >= ordered).all()
    items = made["order_items"]
    assert set(made["orders"]["order_id"].to_pylist()) <= set(
        items["order_id"].to_pylist()
    )
    assert pc.min(items["quantity"]).as_py() is None or (
        pc.min(items["quantity"]).as_py() >= 1
    )
    recent = end - story.COMING_DAYS * DAY
    for name, known in (("customer_id", size.customers), ("product_id", size.products)):
        ids = pc.fill_null(made["interactions"][name], 1).to_numpy()
        old, new = ids[occurred < recent], ids[occurred >= recent]
        assert ((old >= story.NOBODY) & (old <= known)).all()
        assert ((new >= story.NOBODY) & (new <= known + 4)).all()
    lines = items["order_id"].to_numpy()
    assert ((np.abs(lines) <= size.orders) & (lines != 0)).all()
    signup = numbers(made["customers"], "signup_at")
    assert (signup < end).all()
    assert (numbers(made["customers"], "updated_at") >= signup).all()


@effort(max_examples=15, deadline=None)
@given(SIZES)
def test_orders_are_purchases(size: Size) -> None:
    """Every purchase is a line of an order of that customer at that moment."""
    made = tables(size)
    bought = made["interactions"].filter(
        pc.equal(made["interactions"]["interaction_type"], "purchase")
    )
    purchases = sorted(
        zip(
            bought["customer_id"].to_pylist(),
            bought["product_id"].to_pylist(),
            numbers(bought, "occurred_at").tolist(),
            strict=True,
        )
    )
    orders = {
        key: (customer, moment)
        for key, customer, moment in zip(
            made["orders"]["order_id"].to_pylist(),
            made["orders"]["customer_id"].to_pylist(),
            numbers(made["orders"], "ordered_at").tolist(),
            strict=True,
        )
    }
    items = made["order_items"]
    lines = [
        (orders[key][0], product, orders[key][1])
        for key, product in zip(
            items["order_id"].to_pylist(), items["product_id"].to_pylist(), strict=True
        )
        if key in orders
    ]
    left = list(lines)
    for purchase in purchases:
        left.remove(purchase)
    if size.interactions >= 12 * size.orders:
        assert left == []


@effort(max_examples=15, deadline=None)
@given(SIZES)
def test_nothing_is_bought_unseen(size: Size) -> None:
    rows = tables(size)["interactions"].to_pylist()
    seen: set[tuple[bytes, int]] = set()
    for row in rows:
        key = (row["session_id"], row["product_id"])
        if row["interaction_type"] in ("view", "review"):
            seen.add(key)
        if row["interaction_type"] == "purchase":
            # A view may have lost its product: that is dirt, not a broken funnel.
            nameless = any(
                other["session_id"] == row["session_id"] and other["product_id"] is None
                for other in rows
            )
            assert key in seen or nameless


def test_a_script_never_skips_the_view() -> None:
    from source.scripts import BUY, CART, CLICK, REVIEW, VIEW, WISH, browsing, buying

    for library in (browsing(), buying()):
        for first, length in zip(library.first, library.length, strict=True):
            opened: set[int] = set()
            for kind, slot in zip(
                library.kind[first : first + length],
                library.slot[first : first + length],
                strict=True,
            ):
                if kind in (VIEW, REVIEW):
                    opened.add(int(slot))
                if kind in (CLICK, CART, WISH, BUY):
                    assert int(slot) in opened


def digest(size: Size) -> dict[str, str]:
    """SHA-256 of each table's COPY bytes, its blocks in order."""
    found = {table.name: hashlib.sha256() for table in TABLES}
    for part in parts(size):
        for piece in encode(part.table.schema, part.batches(lambda rows: None)):
            found[part.table.name].update(piece)
    return {name: value.hexdigest() for name, value in found.items()}


def test_same_seed_same_bytes_on_every_machine() -> None:
    assert digest(SMALL) == GOLDEN


def test_another_seed_is_another_shop() -> None:
    first, second = digest(SMALL), digest(replace(SMALL, seed=8))
    assert all(first[name] != second[name] for name in first)


def test_blocks_in_any_order_and_number(
    shop: Settings, contents: Contents, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = Size(100_000, 1_000, 200_000, 5_000, seed=3)
    generate.generate(shop, size)
    first = contents()
    monkeypatch.setattr(generate, "BLOCKS_A_COPY", 1)
    monkeypatch.setattr(generate, "CONNECTIONS", 1)
    generate.generate(shop, size, replace=True)
    assert contents() == first


def test_the_loaded_shop_is_what_was_asked(
    settings: Settings, counts: Counts, query: Query
) -> None:
    done = generate.generate(settings, SMALL)
    assert done == counts()
    assert done["interactions"] == SMALL.interactions
    # What init gives, generate gives: keys, indexes, triggers, the reader's rights.
    assert query("SELECT count(*) FROM pg_indexes WHERE schemaname = 'public'") == [
        (10,)
    ]
    query("UPDATE orders SET status = 'paid' WHERE order_id = 1")
    assert query(
        "SELECT now() - updated_at < '1 min' FROM orders WHERE order_id = 1"
    ) == [(True,)]
    assert query("SELECT has_table_privilege('ecom_ingest', 'orders', 'SELECT')") == [
        (True,)
    ]
    assert query(
        "SELECT count(*) FROM pg_namespace WHERE nspname = 'ecom_loading'"
    ) == [(0,)]


def test_a_shop_with_rows_is_left_alone(shop: Settings, contents: Contents) -> None:
    generate.generate(shop, SMALL)
    before = contents()
    with pytest.raises(DataError, match="holds rows already"):
        generate.generate(shop, replace(SMALL, seed=9))
    assert contents() == before
    generate.generate(shop, replace(SMALL, seed=9), replace=True)
    assert contents() != before


def test_rights_given_by_hand_survive(shop: Settings, query: Query) -> None:
    query("GRANT SELECT, UPDATE ON orders TO hive")
    generate.generate(shop, SMALL)
    assert query(
        "SELECT has_table_privilege('hive', 'orders', 'SELECT, UPDATE'), "
        "has_table_privilege('hive', 'orders', 'DELETE')"
    ) == [(True, False)]


def test_a_view_on_the_shop_is_named_and_nothing_changes(
    shop: Settings, query: Query, counts: Counts
) -> None:
    query("CREATE VIEW mine AS SELECT * FROM orders")
    with pytest.raises(DataError, match="mine"):
        generate.generate(shop, SMALL)
    assert sum(counts().values()) == 0


def test_a_table_that_somebody_holds_is_known_before_the_load(
    shop: Settings, counts: Counts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generate, "LOCK_PATIENCE", 0.1)
    reader = psycopg2.connect(shop.source_dsn)
    reader.cursor().execute("SELECT count(*) FROM orders")
    with pytest.raises(DataError, match="another session holds the tables"):
        generate.generate(shop, SMALL)
    reader.close()
    generate.generate(shop, SMALL)
    assert counts()["orders"] == SMALL.orders


@pytest.mark.parametrize(
    "size",
    [
        Size(-1, 1, 1, 1),
        Size(0, 5, 10, 0),
        Size(5, 0, 0, 10),
        Size(1, 1, 1, 1, days=(dt.date(2023, 1, 1), dt.date(9000, 1, 1))),
    ],
)
def test_impossible_shops_are_refused(shop: Settings, size: Size) -> None:
    with pytest.raises(UsageError):
        generate.generate(shop, size)


@pytest.mark.parametrize(
    "size",
    [
        Size(0, 0, 0, 0), Size(0, 1, 0, 0), Size(1, 0, 0, 0), Size(3, 2, 0, 5),
        Size(1, 1, 1, 0), Size(2, 5_000, 40, 3), Size(1, 1, 1, 1, days=(DAY_1, DAY_1)),
        Size(2, 2, 9, 1, days=(dt.date(1, 1, 1), dt.date(1, 1, 1))),
    ],
)  # fmt: skip
def test_tiny_shops_are_possible(shop: Settings, counts: Counts, size: Size) -> None:
    generate.generate(shop, size)
    found = counts()
    assert found.pop("order_items") >= size.orders
    assert found == {name: getattr(size, name) for name in found}


def test_a_reader_sees_the_old_shop_or_the_new_one(
    shop: Settings, query: Query
) -> None:
    """Six sizes one after another; whoever looks, in whatever order, waits or sees one
    of them in all tables, and no deadlock ends either."""
    sizes = [Size(40 + n, 20 + n, 300 + n, 30 + n) for n in range(6)]
    generate.generate(shop, sizes[0])
    seen = []

    def look() -> None:
        # The locks come first: each statement then sees one state of all tables.
        seen.append(
            query(
                "LOCK TABLE customers, products, interactions, orders IN ACCESS "
                "SHARE MODE; SELECT (SELECT count(*) FROM customers), (SELECT "
                "count(*) FROM products), (SELECT count(*) FROM interactions), "
                "(SELECT count(*) FROM orders)"
            )[0]
        )

    with meanwhile(look):
        for size in sizes[1:]:
            generate.generate(shop, size, replace=True)
    whole = {(s.customers, s.products, s.interactions, s.orders) for s in sizes}
    assert set(seen) <= whole
    assert len(set(seen)) > 2


def test_a_vacuum_of_the_new_tables_is_no_deadlock(
    shop: Settings, query: Query
) -> None:
    """Autovacuum looks at freshly loaded tables; here all the time."""
    generate.generate(shop, SMALL)

    def look(table: str) -> None:
        with suppress(
            psycopg2.errors.UndefinedTable, psycopg2.errors.InvalidSchemaName
        ):
            query(f"ANALYZE ecom_loading.{table}")

    tables = ("customers", "products", "interactions", "orders")
    with meanwhile(*(partial(look, table) for table in tables)):
        for seed in range(3):
            generate.generate(shop, replace(SMALL, seed=seed), replace=True)
    assert query("SELECT count(*) FROM interactions") == [(SMALL.interactions,)]


def test_the_planner_knows_the_new_shop(shop: Settings, query: Query) -> None:
    generate.generate(shop, SMALL)
    assert query(
        "SELECT reltuples FROM pg_class WHERE oid = 'interactions'::regclass"
    ) == [(SMALL.interactions,)]


def test_kill_9_leaves_the_shop_as_it_was(
    shop: Settings, contents: Contents, query: Query
) -> None:
    generate.generate(shop, SMALL)
    before = contents()
    command = [
        sys.executable, "-m", "cli.main", "source", "generate", "--customers", "5000",
        "--products", "500", "--interactions", "5000000", "--orders", "1000", "--replace",
    ]  # fmt: skip
    process = subprocess.Popen(
        command,
        cwd=PROJECT,
        env={**os.environ, "ECOM_SOURCE_DSN": str(shop.source_dsn)},
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    try:
        _wait_for_loading(query)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert contents() == before
    _wait_for_the_lock(shop)
    generate.generate(shop, replace(SMALL, seed=11), replace=True)
    assert query("SELECT to_regnamespace('ecom_loading')") == [(None,)]


def _wait_for_loading(query: Query) -> None:
    for _ in range(300):
        if query(
            "SELECT count(*) FROM pg_stat_progress_copy WHERE tuples_processed > 0"
        )[0][0]:
            return
        time.sleep(0.05)
    raise AssertionError("the load never began")


def _wait_for_the_lock(settings: Settings) -> None:
    from source.schema import init

    for _ in range(100):
        try:
            init(settings)
        except DataError:
            time.sleep(0.1)
        else:
            return
    raise AssertionError("the killed session still holds the lock")


def test_names_are_as_long_as_the_draw_expects() -> None:
    for region in story.REGIONS:
        assert len(region.first) == len(region.last) == 12
    assert all(len(nouns) == 6 for nouns in story.NOUNS)
    assert len(story.ADJECTIVES) == 16
