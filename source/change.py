"""`ecom source change`: one more day in the life of a shop, in one transaction.

What happens has the time of the simulated day (`ordered_at`, `occurred_at`,
`signup_at`); when it is written down (`updated_at`, `recorded_at`) is the server's
real clock, because incremental reads go by that clock.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from psycopg2 import sql

from common.database import Connection
from common.errors import UsageError
from common.progress import task
from common.settings import Settings
from source import goods, people, story
from source.arrow import ArrowArray
from source.bulk import copy_batches
from source.chance import Array
from source.database import Cursor, transaction
from source.goods import Goods
from source.people import UNBORN, People
from source.schema import PUBLIC, lock_shop
from source.sessions import Historian, Shop
from source.tables import (
    CUSTOMERS,
    INTERACTIONS,
    ORDER_ITEMS,
    ORDERS,
    PRODUCTS,
    TIERS,
    Table,
)
from source.timeline import EPOCH, LAST_DAY, Timeline

DOING = "Changing the shop"
FETCH = 50_000
# Shares of `rate` by table: how many of its rows the day adds, changes, deletes.
NEW_CUSTOMERS, NEW_PRODUCTS = 0.4, 0.1
TIER_MOVES, REGION_MOVES, CORRECTIONS = 0.5, 0.2, 0.2
PRICE_CHANGES, RETURNS = 0.5, 0.1
GONE_CUSTOMERS, GONE_PRODUCTS, GONE_ORDERS = 0.05, 0.03, 0.05
LATE_EVENTS, LATE_DAYS = 0.05, 10
# Orders that come back or are deleted are of the last days, as long as there are any.
RETURN_DAYS = 90
# A natural day follows from the days before it; a shop without any has this rate.
NATURAL_DAYS, FALLBACK_RATE = 28, 1 / 365
# A day changes at least one row of a table that has this many.
SMALLEST_LOT = 100
# A real shop's table may hold anything; what lies outside is left out of the story.
SANE_TIME = "BETWEEN timestamptz '1900-01-01Z' AND timestamptz '2199-12-31Z'"
LARGEST_ID = 2**62
MILLION = 1_000_000


@dataclass
class Day:
    """What one day did: rows by what happened to them."""

    day: dt.date
    counts: dict[str, int] = field(default_factory=dict)


def change(
    settings: Settings, day: dt.date | None, rate: float | None, seed: int
) -> Day:
    """Let the shop live one more day.

    Args:
        settings: where the source is.
        day: the day told; None for the day after the last event.
        rate: share of each table's rows the day adds, changes or deletes; each kind
            of change has a share of its own, see `docs/source.md`. None for a day
            like those before it.
        seed: with the day and what the shop holds, decides everything.

    Raises:
        UsageError: the rate is not within 0 and 1, or the shop has no customers or
            products.
    """
    if rate is not None and not 0 <= rate <= 1:
        raise UsageError(
            f"{DOING}: --rate {rate} is not between 0 and 1",
            "try 0.01, or leave it out for a natural day",
        )
    with transaction(settings, DOING) as connection, task(DOING, unit="steps") as shown:
        cursor = connection.cursor()
        lock_shop(cursor)
        told = day or _next_day(cursor)
        chosen = _natural_rate(cursor, told) if rate is None else rate
        work = _Change(connection, told, chosen, seed, Day(told))
        for step in work.steps():
            step()
            shown.advance()
    return work.done


def _next_day(cursor: Cursor) -> dt.date:
    cursor.execute(
        "SELECT (greatest((SELECT max(occurred_at) FROM public.interactions"
        f" WHERE occurred_at {SANE_TIME}), (SELECT max(ordered_at) FROM public.orders"
        f" WHERE ordered_at {SANE_TIME})) AT TIME ZONE 'UTC')::date"
    )
    row = cursor.fetchone()
    last = row[0] if row and row[0] else LAST_DAY
    return _as_date(last) + dt.timedelta(days=1)


def _natural_rate(cursor: Cursor, day: dt.date) -> float:
    """The share of all interactions that falls on a day like those before it.

    The traffic of the four weeks before, with the story's weight for the day against
    theirs: so the week, the season and the growth go on as they were.
    """
    first = day - dt.timedelta(days=NATURAL_DAYS)
    for table, column in ((INTERACTIONS, "occurred_at"), (ORDERS, "ordered_at")):
        cursor.execute(
            sql.SQL(
                "SELECT count(*), count(*) FILTER (WHERE {0} >= %s AND {0} < %s) FROM {1}"
            ).format(sql.Identifier(column), sql.Identifier(PUBLIC, table.name)),
            (first, day),
        )
        row = cursor.fetchone()
        total, lately = row if row else (0, 0)
        if lately:
            weights = Timeline(first, day).weights_by_day()
            # What comes late for these days is told on top of them.
            share = weights[-1] / weights[:-1].sum() / (1 + LATE_EVENTS)
            return min(float(lately / total * share), 1.0)
    return FALLBACK_RATE


def _as_date(value: object) -> dt.date:
    assert isinstance(value, dt.date)
    return value


class _Change:
    """One day's work on one connection."""

    def __init__(
        self,
        connection: Connection,
        day: dt.date,
        rate: float,
        seed: int,
        done: Day,
    ) -> None:
        self.connection, self.cursor = connection, connection.cursor()
        self.day, self.rate, self.seed, self.done = day, rate, seed, done
        # Taken before anything is deleted: an id is never given twice.
        self.next_ids = {
            CUSTOMERS: self._next_id(CUSTOMERS),
            PRODUCTS: self._next_id(PRODUCTS),
            ORDERS: self._next_id(ORDERS, ORDER_ITEMS),
        }
        self.day_seed = self._day_seed("day")

    def steps(self) -> list[Callable[[], None]]:
        """Everything that happens, in order: the old changes, then the new comes."""
        return [
            self._delete_orders, self._delete_customers, self._delete_products,
            self._move_tiers, self._move_regions, self._correct_customers,
            self._change_prices, self._change_statuses, self._add_customers,
            self._add_products, self._add_history, self._add_late_events,
        ]  # fmt: skip

    def _day_seed(self, what: str) -> int:
        """Chance of its own for each day, and for a day told again."""
        told = (self.seed, self.day.isoformat(), self._next_id(INTERACTIONS), what)
        return int.from_bytes(
            hashlib.blake2b(repr(told).encode(), digest_size=7).digest(), "big"
        )

    def _count(self, table: Table) -> int:
        return self._number("SELECT count(*) FROM {}", table)

    def _number(self, statement: str, table: Table, column: str = "") -> int:
        """A whole number that a query tells of a table; 0 for null."""
        names = [sql.Identifier(PUBLIC, table.name)]
        if column:
            names.insert(0, sql.Identifier(column))
        self.cursor.execute(sql.SQL(statement).format(*names))
        row = self.cursor.fetchone()
        return int(row[0] or 0) if row else 0

    def _share(
        self,
        what: str,
        table: Table,
        statement: str,
        share: float,
        salt: int,
        recent: str = "",
    ) -> None:
        """Run an update or delete on a share of a table's rows, chosen by a hash.

        The statement's `{lot}` is the condition that a row was chosen, `{chance}` a
        whole number that follows from its key. `recent` names the column of a moment:
        rows of the last `RETURN_DAYS` are chosen before any other.
        """
        key = sql.Identifier(table.key[0])
        name = sql.Identifier(PUBLIC, table.name)
        total = self._count(table)
        wanted = round(total * self.rate * share)
        if self.rate and total >= SMALLEST_LOT:
            wanted = max(wanted, 1)
        seeds = [
            sql.Literal((self.day_seed + part) % 2**62) for part in (salt, salt + 50)
        ]
        lot = sql.SQL(
            "{} IN (SELECT {} FROM {} ORDER BY {} hashint8extended({}, {}), {} LIMIT {})"
        )
        first = sql.Composed([])
        if recent:
            since = sql.Literal(f"{self.day - dt.timedelta(days=RETURN_DAYS)}Z")
            first = sql.SQL("{} < {},").format(sql.Identifier(recent), since)
        self.cursor.execute(
            sql.SQL(statement).format(
                lot=lot.format(
                    key, key, name, first, key, seeds[0], key, sql.Literal(wanted)
                ),
                chance=sql.SQL("(hashint8extended({}, {}) & 2147483647)").format(
                    key, seeds[1]
                ),
            )
        )
        self.done.counts[what] = self.cursor.rowcount

    def _delete_orders(self) -> None:
        self._share(
            "order lines deleted", ORDERS,
            "DELETE FROM public.order_items WHERE {lot}", GONE_ORDERS, 1, "ordered_at",
        )  # fmt: skip
        self._share(
            "orders deleted", ORDERS,
            "DELETE FROM public.orders WHERE {lot}", GONE_ORDERS, 1, "ordered_at",
        )  # fmt: skip

    def _delete_customers(self) -> None:
        self._share(
            "customers deleted", CUSTOMERS,
            "DELETE FROM public.customers WHERE {lot}", GONE_CUSTOMERS, 2,
        )  # fmt: skip

    def _delete_products(self) -> None:
        self._share(
            "products deleted", PRODUCTS,
            "DELETE FROM public.products WHERE {lot}", GONE_PRODUCTS, 3,
        )  # fmt: skip

    def _move_tiers(self) -> None:
        """Two of three go up, one down; bronze and platinum have one way only."""
        self._share(
            "tier moves", CUSTOMERS,
            """UPDATE public.customers SET loyalty_tier =
                CASE loyalty_tier WHEN 'bronze' THEN 'silver'
                     WHEN 'silver' THEN CASE WHEN up THEN 'gold' ELSE 'bronze' END
                     WHEN 'gold' THEN CASE WHEN up THEN 'platinum' ELSE 'silver' END
                     ELSE 'gold' END
               FROM (SELECT customer_id AS id, {chance} % 3 < 2 AS up
                     FROM public.customers) AS chosen
               WHERE id = customer_id AND {lot}
                 AND loyalty_tier IN ('bronze', 'silver', 'gold', 'platinum')""",
            TIER_MOVES, 4,
        )  # fmt: skip

    def _move_regions(self) -> None:
        """To any other region that has customers."""
        self._share(
            "region moves", CUSTOMERS,
            """WITH r AS (SELECT array_agg(DISTINCT region ORDER BY region) AS names
                          FROM public.customers WHERE region IS NOT NULL)
               UPDATE public.customers SET region = (array_remove(names, region))[
                   1 + {chance} % greatest(cardinality(array_remove(names, region)), 1)]
               FROM r WHERE {lot} AND cardinality(array_remove(names, region)) > 0""",
            REGION_MOVES, 5,
        )  # fmt: skip

    def _correct_customers(self) -> None:
        """Birth dates that were missing are told; e-mail addresses move to another
        provider."""
        self._share(
            "customers corrected", CUSTOMERS,
            """UPDATE public.customers SET
                birth_date = coalesce(
                    birth_date, date '1950-01-01' + ({chance} % 20000)::int),
                email = coalesce(split_part(email, '@', 1), 'customer' || customer_id)
                    || CASE split_part(email, '@', 2) WHEN 'example.com'
                       THEN '@example.org' ELSE '@example.com' END
               WHERE {lot}""",
            CORRECTIONS, 6,
        )  # fmt: skip

    def _change_prices(self) -> None:
        """Between a fifth less and a quarter more, and never the same."""
        self._share(
            "price changes", PRODUCTS,
            """UPDATE public.products SET price = least(9999999999.99, greatest(0.05,
                round(price * (80 + {chance} % 46) / 100.0, 2) + 0.01)) WHERE {lot}""",
            PRICE_CHANGES, 7,
        )  # fmt: skip

    def _change_statuses(self) -> None:
        """A third of the open orders go one step on; a few delivered ones come back."""
        if not self.rate:
            return
        self._share(
            "status changes", ORDERS,
            """UPDATE public.orders SET status = CASE status
                WHEN 'placed' THEN 'paid' WHEN 'paid' THEN 'shipped'
                WHEN 'shipped' THEN 'delivered' ELSE 'returned' END
               WHERE (status = 'delivered' AND {lot})
                  OR (status IN ('placed', 'paid', 'shipped') AND {chance} % 3 = 0)""",
            RETURNS, 8, "ordered_at",
        )  # fmt: skip

    def _new(self, table: Table, share: float = 1) -> int:
        """How many rows to add: at least one to a table of some size."""
        total = self._count(table)
        least = int(bool(self.rate) and total >= SMALLEST_LOT)
        return max(round(total * self.rate * share), least)

    def _next_id(self, table: Table, *others: Table) -> int:
        statement = f"SELECT max({{0}}) FROM {{1}} WHERE {{0}} < {LARGEST_ID}"
        return 1 + max(
            self._number(statement, one, table.key[0]) for one in (table, *others)
        )

    def _add(self, what: str, table: Table, batches: Iterable[pa.RecordBatch]) -> None:
        """Insert batches, their cursor stamped with the transaction's time."""
        kept = [name for name in table.names if name != table.cursor]
        schema = pa.schema([table.schema.field(name) for name in kept])
        self.done.counts[what] = 0

        def narrowed() -> Iterator[pa.RecordBatch]:
            for batch in batches:
                self.done.counts[what] += batch.num_rows
                yield batch.select(kept)

        copy_batches(
            self.cursor, sql.Identifier(PUBLIC, table.name), schema, narrowed()
        )

    def _timeline(self, back: int = 0, last: dt.date | None = None) -> Timeline:
        return Timeline(self.day - dt.timedelta(days=back), last or self.day)

    def _add_customers(self) -> None:
        count = self._new(CUSTOMERS, NEW_CUSTOMERS)
        first, timeline = self.next_ids[CUSTOMERS], self._timeline()
        made = [
            people.rows(self.day_seed, number, size, timeline, first)
            for number, size in people.blocks(count)
        ]
        at = CUSTOMERS.names.index("signup_at")
        today = [
            batch.set_column(at, "signup_at", _within_day(batch["signup_at"], timeline))
            for batch in made
        ]
        self._add("customers added", CUSTOMERS, today)

    def _add_products(self) -> None:
        count = self._new(PRODUCTS, NEW_PRODUCTS)
        first, timeline = self.next_ids[PRODUCTS], self._timeline()
        made = [
            goods.rows(self.day_seed, number, size, timeline, first)
            for number, size in goods.blocks(count)
        ]
        self._add("products added", PRODUCTS, made)

    def _add_history(self) -> None:
        self.people, self.goods = (
            _people(self.connection, self.day),
            _goods(self.connection),
        )
        history = self._historian(
            self._new(INTERACTIONS), self._new(ORDERS), self._timeline(), self.day_seed
        )
        if history is None:
            return
        blocks = range(history.shop.blocks)
        self._add("orders added", ORDERS, (history.orders(b) for b in blocks))
        self._add(
            "order lines added", ORDER_ITEMS, (history.order_items(b) for b in blocks)
        )
        self._add(
            "interactions added",
            INTERACTIONS,
            (history.interactions(b) for b in blocks),
        )

    def _add_late_events(self) -> None:
        """Interactions of the ten days before, recorded only now."""
        count = self._new(INTERACTIONS, LATE_EVENTS)
        before = self._timeline(LATE_DAYS, self.day - dt.timedelta(days=1))
        history = self._historian(count, 0, before, self._day_seed("late"))
        if history is not None:
            made = map(history.interactions, range(history.shop.blocks))
            self._add("late interactions added", INTERACTIONS, made)

    def _historian(
        self, interactions: int, orders: int, timeline: Timeline, seed: int
    ) -> Historian | None:
        if not (interactions or orders):
            return None
        if not (len(self.people) and len(self.goods.ids)):
            raise UsageError(
                f"{DOING}: the shop has no customers or no products",
                "fill it with `ecom source generate` or `ecom source load-csv`",
            )
        return Historian(
            Shop(
                seed=seed,
                people=self.people,
                goods=self.goods,
                timeline=timeline,
                interactions=interactions,
                orders=orders,
                first_interaction=self._next_id(INTERACTIONS),
                first_order=self.next_ids[ORDERS],
            )
        )


def _within_day(values: ArrowArray, timeline: Timeline) -> ArrowArray:
    """The same moments of the clock, moved into the last day of the timeline."""
    micros = np.asarray(values.cast(pa.int64()))
    return people.moment(timeline.start + micros % (timeline.end - timeline.start))


def _column_batches(
    connection: Connection, name: str, statement: str
) -> Iterator[list[tuple[object, ...]]]:
    """Rows of a query, `FETCH` at a time."""
    with connection.cursor(name=name) as cursor:
        cursor.itersize = FETCH
        cursor.execute(statement)
        while rows := cursor.fetchmany(FETCH):
            yield rows


def _people(connection: Connection, day: dt.date) -> People:
    """The shop's customers as arrays; names the story does not know count as one."""
    regions = {region.name: index for index, region in enumerate(story.REGIONS)}
    tiers = {tier: index for index, tier in enumerate(TIERS)}
    parts: list[Array] = []
    for rows in _column_batches(
        connection,
        "ecom_people",
        "SELECT customer_id, region, loyalty_tier, "
        "CASE WHEN isfinite(birth_date) THEN birth_date - date '1970-01-01' END, "
        f"CASE WHEN signup_at {SANE_TIME} THEN extract(epoch FROM signup_at)::bigint END "
        f"FROM public.customers WHERE customer_id < {LARGEST_ID} ORDER BY customer_id",
    ):
        parts.append(
            np.array(
                [
                    (
                        key,
                        regions.get(str(region), len(str(region)) % len(regions)),
                        tiers.get(str(tier), 0),
                        UNBORN if birth is None else birth,
                        signup or 0,
                    )
                    for key, region, tier, birth, signup in rows
                ],
                dtype=np.int64,
            )
        )
    table = np.concatenate(parts) if parts else np.zeros((0, 5), dtype=np.int64)
    return People(
        ids=table[:, 0],
        region=table[:, 1].astype(np.int8),
        tier=table[:, 2].astype(np.int8),
        age_class=people.age_classes(table[:, 3], (day - EPOCH).days),
        signup=table[:, 4] * MILLION,
    )


def _goods(connection: Connection) -> Goods:
    """The shop's products as arrays; other categories are spread over the story's."""
    categories = {name: index for index, name in enumerate(story.CATEGORIES)}
    parts: list[Array] = []
    for rows in _column_batches(
        connection,
        "ecom_goods",
        "SELECT product_id, category, CASE WHEN price BETWEEN 0 AND 9999999999.99 "
        "THEN round(price * 100)::bigint ELSE 0 END "
        f"FROM public.products WHERE product_id < {LARGEST_ID} ORDER BY product_id",
    ):
        parts.append(
            np.array(
                [
                    (
                        key,
                        categories.get(str(name), len(str(name)) % len(categories)),
                        cents,
                    )
                    for key, name, cents in rows
                ],
                dtype=np.int64,
            )
        )
    table = np.concatenate(parts) if parts else np.zeros((0, 3), dtype=np.int64)
    return Goods.stocked(table[:, 0], table[:, 1].astype(np.int8), table[:, 2])
