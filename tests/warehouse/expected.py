"""What the warehouse should hold, worked out from staged rows in plain Python.

Written from the contract alone: nothing of the models is used.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from tests.warehouse.staging import KEYS, Row, Staging

START, END = datetime(1900, 1, 1), datetime(9999, 12, 31)
TYPES = ["view", "search", "click", "add_to_cart", "wishlist", "purchase", "review"]
STATUSES = ["placed", "paid", "shipped", "delivered", "cancelled", "returned"]
NOT_SOLD = {"cancelled", "returned"}
BANDS = [(18, "<18"), (25, "18-24"), (35, "25-34"), (45, "35-44"), (55, "45-54")]


@dataclass(frozen=True)
class Version:
    """One row of the customer dimension."""

    customer_id: int
    region: str
    tier: str
    valid_from: datetime
    valid_to: datetime
    is_deleted: bool


def _bad_moment(moment: datetime | None, row: Row) -> bool:
    limit = row["_cdc_loaded_at"] + timedelta(days=1)
    return moment is None or not START <= moment <= limit


def fault(table: str, row: Row) -> str | None:
    """Why the star cannot take a row by itself, or None."""
    moments = {
        "customers": ["updated_at", "signup_at"],
        "products": ["updated_at"],
        "orders": ["ordered_at", "updated_at"],
        "order_items": ["updated_at"],
        "interactions": ["occurred_at", "recorded_at"],
    }
    if any(row[key] is None for key in KEYS[table]):
        return "null key"
    if table in ("customers", "products") and row[KEYS[table][0]] == -1:
        return "duplicate key"  # the unknown member has it
    for name in moments[table]:
        if _bad_moment(row[name], row):
            return f"impossible {name}"
    if table == "products" and row["price"] is not None and row["price"] < 0:
        return "price below 0"
    if table == "order_items" and (row["quantity"] is None or row["quantity"] <= 0):
        return "quantity not above 0"
    if table == "order_items" and row["unit_price"] is None:
        return "null price"
    if table == "order_items" and row["unit_price"] < 0:
        return "price below 0"
    if table == "order_items" and row["quantity"] * row["unit_price"] >= 10**16:
        return "revenue beyond decimal(18,2)"
    if table == "orders" and row["status"] not in STATUSES:
        return "unknown status"
    if table == "interactions" and row["interaction_type"] not in TYPES:
        return "unknown interaction type"
    return None


class Expected:
    """The expected tables of a staging area.

    Args:
        staging: what is staged.
        zone: the reporting time zone.
    """

    def __init__(self, staging: Staging, zone: str = "UTC") -> None:
        self._staging, self._zone = staging, ZoneInfo(zone)
        self.rejected: list[tuple[str, str, str]] = []
        self._usable = {table: self._first_of(table) for table in KEYS}
        self.versions = self._customer_versions()
        self.births = self._births()
        self.products = {row["product_id"]: row for row in self._usable_products()}
        self.lines = self._order_lines()

    def _live(self, table: str) -> list[Row]:
        rows = self._staging.rows[table]
        return [row for row in rows if row["_cdc_deleted_at"] is None]

    def _reject(self, table: str, row: Row, reason: str) -> None:
        key = "|".join(str(row[n]) if row[n] is not None else "" for n in KEYS[table])
        self.rejected.append((table, key, reason))

    def _first_of(self, table: str) -> list[Row]:
        taken: dict[tuple[Any, ...], Row] = {}
        for row in sorted(self._live(table), key=lambda r: r["_cdc_loaded_at"]):
            key = tuple(row[name] for name in KEYS[table])
            reason = fault(table, row)
            if reason is None and key in taken:
                reason = "duplicate key"
            if reason is None:
                taken[key] = row
            else:
                self._reject(table, row, reason)
        return list(taken.values())

    def _usable_products(self) -> Iterable[Row]:
        yield from self._usable["products"]
        for row in self._staging.rows["products"]:
            if row["_cdc_deleted_at"] is not None and fault("products", row) is None:
                yield row

    def _captured(self) -> dict[int, list[Row]]:
        found = defaultdict(list)
        for row in self._staging.history:
            found[row["customer_id"]].append(row)
        return {
            customer: sorted(rows, key=lambda row: row["_cdc_loaded_at"])
            for customer, rows in found.items()
            if customer is not None and fault("customers", rows[-1]) is None
        }

    @staticmethod
    def _timed(rows: list[Row]) -> list[tuple[datetime, Row]]:
        timed, deleted_at = [], START
        for row in rows:
            moment = row["updated_at"]
            if row["_cdc_deleted_at"] is not None:
                after = moment + timedelta(microseconds=1)
                moment = deleted_at = max(row["_cdc_deleted_at"], after)
            elif moment is None or moment <= deleted_at:
                moment = row["_cdc_loaded_at"]
            timed.append((moment, row))
        return timed

    def _customer_versions(self) -> dict[int, list[Version]]:
        result = {}
        for customer, rows in self._captured().items():
            known: list[tuple[datetime, tuple[str, str, bool]]] = []
            for moment, row in self._timed(rows):
                if fault("customers", row) is not None:
                    continue
                # What is known now takes the place of what was said of its time.
                start = moment if known else START
                while known and known[-1][0] >= start:
                    known.pop()
                region, tier = row["region"], row["loyalty_tier"]
                deleted = row["_cdc_deleted_at"] is not None
                known.append((start, (region or "unknown", tier or "unknown", deleted)))
            steps = known[:1]
            for moment, state in known[1:]:
                if steps[-1][1] != state:
                    steps.append((moment, state))
            ends = [moment for moment, _ in steps[1:]] + [END]
            result[customer] = [
                Version(customer, region, tier, start, end, deleted)
                for (start, (region, tier, deleted)), end in zip(steps, ends)
            ]
        return result

    def _births(self) -> dict[int, date | None]:
        return {
            customer: rows[-1]["birth_date"]
            for customer, rows in self._captured().items()
        }

    def version_at(self, customer: int | None, moment: datetime) -> Version | None:
        """The customer's version valid at a moment."""
        for version in self.versions.get(customer, []) if customer is not None else []:
            if version.valid_from <= moment < version.valid_to:
                return version
        return None

    def _place(self, customer: int | None, moment: datetime) -> tuple[str, str]:
        version = self.version_at(customer, moment)
        return (version.region, version.tier) if version else ("unknown", "unknown")

    def _order_lines(self) -> list[tuple[Row, Row]]:
        orders = {row["order_id"]: row for row in self._usable["orders"]}
        there = {row["order_id"] for row in self._live("orders")}
        lines = []
        for item in self._usable["order_items"]:
            if item["order_id"] in orders:
                lines.append((item, orders[item["order_id"]]))
            else:
                known = item["order_id"] in there
                reason = "order rejected" if known else "order not there"
                self._reject("order_items", item, reason)
        return lines

    def day(self, moment: datetime) -> date:
        """The day of a UTC moment in the reporting time zone."""
        return moment.replace(tzinfo=timezone.utc).astimezone(self._zone).date()

    def month(self, moment: datetime) -> date:
        """First day of the month of a moment."""
        return self.day(moment).replace(day=1)

    def _key(self, moment: datetime) -> int:
        return int(f"{self.day(moment):%Y%m%d}")

    def snapshot(self) -> list[tuple[Any, ...]]:
        """customer_id, region, tier, is_deleted of the state captured last."""
        last = {}
        for row in sorted(self._staging.history, key=lambda r: r["_cdc_loaded_at"]):
            last[row["customer_id"]] = row
        return [
            (number, r["region"], r["loyalty_tier"], r["_cdc_deleted_at"] is not None)
            for number, r in last.items()
            if number is not None
        ]

    def dim_customer(self) -> list[tuple[Any, ...]]:
        """customer_id, birth_date, region, tier, valid_from, valid_to, flags."""
        return [
            (v.customer_id, self.births[v.customer_id], v.region, v.tier,
             v.valid_from, v.valid_to, v.valid_to == END, v.is_deleted)
            for versions in self.versions.values() for v in versions
        ]  # fmt: skip

    def dim_product(self) -> list[tuple[Any, ...]]:
        """product_id, product_name, category, price, is_deleted."""
        return [
            (r["product_id"], r["product_name"], r["category"], r["price"],
             r["_cdc_deleted_at"] is not None)
            for r in self.products.values()
        ]  # fmt: skip

    def fct_interactions(self) -> list[tuple[Any, ...]]:
        """interaction_id, date_key, ids, type, moment, start of version, product."""
        rows = []
        for r in self._usable["interactions"]:
            version = self.version_at(r["customer_id"], r["occurred_at"])
            known = r["product_id"] if r["product_id"] in self.products else -1
            rows.append((
                r["interaction_id"], self._key(r["occurred_at"]), r["customer_id"],
                r["product_id"], r["interaction_type"], r["occurred_at"],
                version.valid_from if version else START, known,
            ))  # fmt: skip
        return rows

    def fct_order_items(self) -> list[tuple[Any, ...]]:
        """order_id, line, date_key, moment, status, quantity, price, revenue, ..."""
        rows = []
        for item, order in self.lines:
            version = self.version_at(order["customer_id"], order["ordered_at"])
            known = item["product_id"] if item["product_id"] in self.products else -1
            rows.append((
                item["order_id"], item["line_number"], self._key(order["ordered_at"]),
                order["ordered_at"], order["status"], item["quantity"],
                item["unit_price"], item["quantity"] * item["unit_price"],
                version.valid_from if version else START, known,
            ))  # fmt: skip
        return rows

    def customer_activity(self) -> list[tuple[Any, ...]]:
        """Month, region, tier, customers, interactions, purchases, ratio."""
        groups = defaultdict(list)
        for r in self._usable["interactions"]:
            place = self._place(r["customer_id"], r["occurred_at"])
            groups[(self.month(r["occurred_at"]), *place)].append(r)
        rows = []
        for key, members in groups.items():
            customers = _how_many(r["customer_id"] for r in members)
            bought = sum(r["interaction_type"] == "purchase" for r in members)
            ratio = len(members) / customers if customers else None
            rows.append((*key, customers, len(members), bought, ratio))
        return rows

    def top_products(self) -> list[tuple[Any, ...]]:
        """Category, region, product, name, units, revenue, interactions, rank."""
        sums: dict[tuple[str, int], list[Any]] = defaultdict(lambda: [0, Decimal(0), 0])
        for item, order in self.lines:
            region, _ = self._place(order["customer_id"], order["ordered_at"])
            if order["status"] not in NOT_SOLD:
                entry = sums[region, item["product_id"]]
                entry[0] += item["quantity"]
                entry[1] += item["quantity"] * item["unit_price"]
        for r in self._usable["interactions"]:
            region, _ = self._place(r["customer_id"], r["occurred_at"])
            sums[region, r["product_id"]][2] += 1
        groups = defaultdict(list)
        for (region, product), (units, revenue, seen) in sums.items():
            if product in self.products:
                category = self.products[product]["category"]
                groups[category, region].append((-revenue, -seen, product, units))
        rows = []
        for (category, region), members in groups.items():
            ranked = enumerate(sorted(members), start=1)
            for rank, (revenue, seen, product, units) in ranked:
                name = self.products[product]["product_name"]
                rows.append(
                    (category, region, product, name, units, -revenue, -seen, rank)
                )
        return rows

    def interaction_trend(self) -> list[tuple[Any, ...]]:
        """Day, type, interactions, customers, mean of up to seven days."""
        groups = defaultdict(list)
        for r in self._usable["interactions"]:
            groups[self.day(r["occurred_at"]), r["interaction_type"]].append(r)
        if not groups:
            return []
        first = min(day for day, _ in groups)
        last = max(day for day, _ in groups)
        rows = []
        for number in range((last - first).days + 1):
            day = first + timedelta(days=number)
            for kind in TYPES:
                members = groups.get((day, kind), [])
                days = min(number + 1, 7)
                week = sum(
                    len(groups.get((day - timedelta(days=back), kind), []))
                    for back in range(days)
                )
                customers = _how_many(r["customer_id"] for r in members)
                rows.append((day, kind, len(members), customers, week / days))
        return rows

    def purchase_trend(self) -> list[tuple[Any, ...]]:
        """Month, category, orders, units, revenue."""
        groups = defaultdict(list)
        for item, order in self.lines:
            if order["status"] not in NOT_SOLD:
                product = self.products.get(item["product_id"])
                category = product["category"] if product else "unknown"
                groups[self.month(order["ordered_at"]), category].append(item)
        return [
            (*key, len({i["order_id"] for i in items}), sum(i["quantity"] for i in items),
             sum(i["quantity"] * i["unit_price"] for i in items))
            for key, items in groups.items()
        ]  # fmt: skip

    def by_age(self) -> list[tuple[Any, ...]]:
        """Band, type, customers, interactions."""
        groups = defaultdict(list)
        for r in self._usable["interactions"]:
            birth = self.births.get(r["customer_id"])
            band = _band(birth, self.day(r["occurred_at"]))
            groups[band, r["interaction_type"]].append(r["customer_id"])
        return [(*key, _how_many(ids), len(ids)) for key, ids in groups.items()]


def _how_many(ids: Iterable[int | None]) -> int:
    return len({number for number in ids if number is not None})


def _band(birth: date | None, day: date) -> str:
    if birth is None:
        return "unknown"
    age = day.year - birth.year - ((day.month, day.day) < (birth.month, birth.day))
    for limit, name in BANDS:
        if age < limit:
            return name
    return "55-64" if age < 65 else "65+"
