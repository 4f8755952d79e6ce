"""`ecom source generate`: a believable shop, loaded beside the old one, then swapped.

The tables are filled in a schema of their own by two connections and take the place
of the empty ones in one transaction at the end: whoever reads the shop sees it empty
or whole, also when this process is killed.
"""

from __future__ import annotations

import datetime as dt
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from itertools import count

import psycopg2
import pyarrow as pa
from psycopg2 import sql

from common.errors import DataError, UsageError
from common.progress import Task, say, task
from common.settings import Settings
from source import goods, people
from source.bulk import copy_batches
from source.database import Cursor, connect, explained, transaction
from source.schema import (
    PUBLIC,
    READER,
    add_function,
    analyze,
    create_table,
    existing_tables,
    finish_table,
    grant_reader,
    is_empty,
    lock_shop,
)  # fmt: skip
from source.sessions import Historian, Shop
from source.tables import TABLES, Table
from source.timeline import FIRST_DAY, LAST_DAY, Timeline

LOADING = "ecom_loading"
CONNECTIONS = 2
BLOCKS_A_COPY = 16
INDEX_MEMORY = "256MB"
# Seconds to wait for whoever reads the old tables before anything is loaded.
LOCK_PATIENCE = 10.0
DOING = "Generating the shop"


@dataclass(frozen=True)
class Size:
    """How much of a shop, over which days (both inclusive), from which seed."""

    customers: int
    products: int
    interactions: int
    orders: int
    days: tuple[dt.date, dt.date] = (FIRST_DAY, LAST_DAY)
    seed: int = 1

    def check(self) -> None:
        """Refuse what cannot be told.

        Raises:
            UsageError: a negative number, events without customers or products, or
                days that are not over.
        """
        for name in ("customers", "products", "interactions", "orders"):
            if getattr(self, name) < 0:
                raise UsageError(f"{DOING}: --{name} is below 0", "give 0 or more")
        events = self.interactions or self.orders
        if events and not (self.customers and self.products):
            raise UsageError(
                f"{DOING}: interactions and orders need customers and products",
                "give at least --customers 1 --products 1",
            )
        if max(self.customers, self.products) >= 2**31:
            raise UsageError(
                f"{DOING}: more than 2,147,483,647 customers or products",
                "give fewer",
            )
        if self.days[1] >= dt.datetime.now(dt.timezone.utc).date():
            raise UsageError(
                f"{DOING}: the last day, {self.days[1]}, is not over (UTC), and no "
                "row may come from the future",
                "end the range at yesterday or before",
            )


@dataclass(frozen=True)
class Part:
    """Some blocks of one table, loaded by one COPY."""

    table: Table
    make: Callable[[int], pa.RecordBatch]
    blocks: range

    def batches(self, advance: Callable[[int], None]) -> Iterator[pa.RecordBatch]:
        """The blocks one after another, so that one is in memory at a time."""
        for block in self.blocks:
            batch = self.make(block)
            yield batch
            advance(batch.num_rows)


def parts(size: Size) -> list[Part]:
    """The whole shop as independent parts, the largest table first."""
    timeline = Timeline(*size.days)
    shop = Shop(
        seed=size.seed,
        people=people.people(size.seed, size.customers, timeline),
        goods=goods.goods(size.seed, size.products),
        timeline=timeline,
        interactions=size.interactions,
        orders=size.orders,
    )
    by_name = {table.name: table for table in TABLES}
    sizes = {
        "customers": dict(people.blocks(size.customers)),
        "products": dict(goods.blocks(size.products)),
    }
    made: list[tuple[str, Callable[[int], pa.RecordBatch], int]] = []
    if shop.blocks:
        history = Historian(shop)
        made += [
            (
                "interactions",
                history.interactions,
                shop.blocks if size.interactions else 0,
            ),
            ("order_items", history.order_items, shop.blocks if size.orders else 0),
            ("orders", history.orders, shop.blocks if size.orders else 0),
        ]
    made += [
        (
            "customers",
            lambda b: people.rows(size.seed, b, sizes["customers"][b], timeline),
            len(sizes["customers"]),
        ),
        (
            "products",
            lambda b: goods.rows(size.seed, b, sizes["products"][b], timeline),
            len(sizes["products"]),
        ),
    ]
    return [
        Part(by_name[name], make, range(first, min(first + BLOCKS_A_COPY, count)))
        for name, make, count in made
        for first in range(0, count, BLOCKS_A_COPY)
    ]


def generate(settings: Settings, size: Size, replace: bool = False) -> dict[str, int]:
    """Fill an empty shop.

    Args:
        settings: where the source is.
        size: how much.
        replace: let the new shop take the place of one that holds rows.

    Returns:
        Rows for each table.

    Raises:
        UsageError: the size makes no sense.
        DataError: the shop holds rows and `replace` is not given.
    """
    size.check()
    guard = connect(settings)
    try:
        with explained(DOING):
            cursor = guard.cursor()
            # Held to the end by this session, over all its transactions.
            cursor.execute("SET idle_in_transaction_session_timeout = 0")
            lock_shop(cursor)
            _refuse_full(cursor, replace)
            with task("Looking at the shop that is there"):
                _rehearse(cursor)
            _prepare(settings)
            began = time.monotonic()
            counts = _load(settings, parts(size), size)
            with task("Building keys and indexes", len(TABLES), "tables") as shown:
                _in_parallel(
                    [partial(_finish, settings, table, shown) for table in TABLES]
                )
            with task("Putting the new shop in the place of the old one"):
                _swap(cursor)
                guard.commit()
    finally:
        guard.close()
    total = sum(counts.values())
    say(f"Generated {total:,} rows in {time.monotonic() - began:.1f} s")
    return counts


def _refuse_full(cursor: Cursor, replace: bool) -> None:
    if not replace and not is_empty(cursor):
        raise DataError(
            f"{DOING}: the shop holds rows already",
            "add `--replace` to throw them away, or use `ecom source change`",
        )


def _prepare(settings: Settings) -> None:
    """Empty tables in a schema of their own; what a killed run left is removed."""
    with transaction(settings, DOING) as connection:
        cursor = connection.cursor()
        name = sql.Identifier(LOADING)
        cursor.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(name))
        cursor.execute(sql.SQL("CREATE SCHEMA {}").format(name))
        add_function(cursor)
        for table in TABLES:
            create_table(cursor, LOADING, table)


def _load(settings: Settings, todo: list[Part], size: Size) -> dict[str, int]:
    expected = size.customers + size.products + size.interactions + size.orders * 3
    counts = {table.name: 0 for table in TABLES}
    lock = threading.Lock()
    with task("Generating and loading", expected) as shown:

        def load(part: Part) -> None:
            def advance(rows: int) -> None:
                with lock:
                    counts[part.table.name] += rows
                    shown.advance(rows)

            with transaction(settings, DOING) as connection:
                copy_batches(
                    connection.cursor(),
                    sql.Identifier(LOADING, part.table.name),
                    part.table.schema,
                    part.batches(advance),
                )

        _in_parallel([partial(load, part) for part in todo])
    return counts


def _in_parallel(work: list[Callable[[], None]]) -> None:
    """Run pieces on `CONNECTIONS` threads; the first error ends it all."""
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        futures = [pool.submit(piece) for piece in work]
        try:
            for future in as_completed(futures):
                future.result()
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _finish(settings: Settings, table: Table, shown: Task) -> None:
    with transaction(settings, DOING) as connection:
        cursor = connection.cursor()
        cursor.execute("SET maintenance_work_mem = %s", (INDEX_MEMORY,))
        finish_table(cursor, LOADING, table)
        analyze(cursor, LOADING, table)
    shown.advance()


def _rehearse(cursor: Cursor) -> None:
    """Fail now rather than after the load where the old tables cannot go."""
    cursor.execute("SAVEPOINT rehearsal")
    _lock_old_tables(cursor, time.monotonic() + LOCK_PATIENCE)
    for name in existing_tables(cursor):
        cursor.execute(sql.SQL("DROP TABLE {}").format(sql.Identifier(PUBLIC, name)))
    cursor.execute("ROLLBACK TO SAVEPOINT rehearsal")


def _lock_old_tables(cursor: Cursor, until: float | None = None) -> None:
    """Take all the old tables at once, or none and ask again.

    A reader that takes them in another order would make a deadlock with us, and one
    of the two would be ended: so we give way before PostgreSQL looks for one (1 s).
    Every fifth time we wait longer, since only then it calls an autovacuum off.

    Args:
        cursor: of the transaction that is to hold them.
        until: when to give up (`time.monotonic`); None for never.
    """
    present = sorted(existing_tables(cursor))
    if not present:
        return
    for attempt in count(1):
        cursor.execute("SAVEPOINT locks")
        patience = "1500ms" if attempt % 5 == 0 else "500ms"
        cursor.execute("SET LOCAL lock_timeout = %s", (patience,))
        try:
            _lock(cursor, PUBLIC, present)
        except (
            psycopg2.errors.LockNotAvailable,
            psycopg2.errors.DeadlockDetected,
        ):
            if until is not None and time.monotonic() > until:
                raise
            cursor.execute("ROLLBACK TO SAVEPOINT locks; RELEASE SAVEPOINT locks")
            time.sleep(0.2)
        else:
            cursor.execute("SET LOCAL lock_timeout = 0")
            return


def _lock(cursor: Cursor, schema: str, names: Iterable[str]) -> None:
    tables = sql.SQL(", ").join(sql.Identifier(schema, name) for name in names)
    cursor.execute(sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(tables))


def _swap(cursor: Cursor) -> None:
    """Put the loaded tables in the place of the old ones, with their rights."""
    # Autovacuum may be at the new ones. A GRANT takes no lock and would stop it half
    # way, holding a lock of its own that the move needs.
    _lock(cursor, LOADING, [table.name for table in TABLES])
    _lock_old_tables(cursor)
    present = existing_tables(cursor)
    for table in TABLES:
        if table.name in present:
            _give_same_rights(cursor, table)
            cursor.execute(
                sql.SQL("DROP TABLE {}").format(sql.Identifier(PUBLIC, table.name))
            )
        cursor.execute(
            sql.SQL("ALTER TABLE {} SET SCHEMA {}").format(
                sql.Identifier(LOADING, table.name), sql.Identifier(PUBLIC)
            )
        )
    cursor.execute(sql.SQL("DROP SCHEMA {}").format(sql.Identifier(LOADING)))
    grant_reader(cursor, READER)


def _give_same_rights(cursor: Cursor, table: Table) -> None:
    cursor.execute(
        "SELECT privilege_type, CASE WHEN grantee = 0 THEN NULL "
        "ELSE pg_get_userbyid(grantee) END, is_grantable "
        "FROM pg_class, aclexplode(relacl) WHERE oid = %s::regclass "
        "AND grantee <> relowner",
        (f"{PUBLIC}.{table.name}",),
    )
    for privilege, grantee, grantable in cursor.fetchall():
        cursor.execute(
            sql.SQL("GRANT {} ON {} TO {}{}").format(
                sql.SQL(privilege),
                sql.Identifier(LOADING, table.name),
                sql.SQL("PUBLIC") if grantee is None else sql.Identifier(grantee),
                sql.SQL(" WITH GRANT OPTION" if grantable else ""),
            )
        )
