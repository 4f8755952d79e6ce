"""Five builds of a small shop, each rule of the contract in a row or two."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from tests.warehouse.staging import Row, Staging


def at(text: str) -> datetime:
    """A moment, `mm-dd hh:mm[:ss[.ffffff]]` of 2024 or with a year before."""
    full = text if text[4] == "-" else f"2024-{text}"
    return datetime.fromisoformat(full)


def customer(
    number: int, region: str | None, tier: str | None, updated: str, **more: Any
) -> Row:
    """A customer's row."""
    return {
        "customer_id": number,
        "full_name": f"Name {number}",
        "email": f"c{number}@example.com",
        "birth_date": date(1980, 1, max(number, 1)),
        "region": region,
        "loyalty_tier": tier,
        "signup_at": at("2023-01-01 00:00"),
        "updated_at": at(updated),
        **more,
    }


def product(number: int, category: str, price: str, updated: str) -> Row:
    """A product's row."""
    return {
        "product_id": number,
        "product_name": f"Product {number}",
        "category": category,
        "price": Decimal(price),
        "updated_at": at(updated),
    }


def event(number: int, who: int | None, what: int | None, kind: str, when: str) -> Row:
    """An interaction's row."""
    return {
        "interaction_id": number,
        "customer_id": who,
        "product_id": what,
        "interaction_type": kind,
        "occurred_at": at(when),
        "session_id": f"s{number}",
        "device": "web",
    }


def order(number: int, who: int, when: str, status: str = "paid") -> Row:
    """An order's row."""
    return {
        "order_id": number,
        "customer_id": who,
        "ordered_at": at(when),
        "status": status,
    }


def line(number: int, of: int, what: int, quantity: int, price: str) -> Row:
    """A line's row."""
    return {
        "order_id": of,
        "line_number": number,
        "product_id": what,
        "quantity": quantity,
        "unit_price": Decimal(price),
    }


def first(s: Staging) -> None:
    """A shop, with orphans and faults."""
    when = at("03-01 06:00")
    s.put(
        "customers",
        when,
        customer(1, "North", "bronze", "02-01 08:00"),
        customer(2, "North", "bronze", "02-01 08:00"),
        customer(3, "South", "silver", "02-01 08:00"),
        customer(4, "South", "gold", "02-01 08:00", birth_date=date(2004, 2, 29)),
        customer(6, "West", "bronze", "02-01 08:00"),
        customer(7, "West", "silver", "02-01 08:00", birth_date=None),
        customer(8, "East", "silver", "02-01 08:00"),
        customer(9, "East", "bronze", "02-01 08:00"),
        customer(10, "East", "bronze", "02-01 08:00", signup_at=None),
        customer(12, "North", "gold", "02-10 00:00"),
        # Ids that could be mistaken for the unknown member or for none.
        customer(-1, "East", "gold", "02-01 08:00"),
        customer(0, "West", "gold", "02-01 08:00"),
        {**customer(1, "West", "gold", "02-01 08:00"), "customer_id": None},
        customer(13, None, None, "02-01 08:00"),
        customer(14, "South", "gold", "02-01 08:00", birth_date=date(2030, 1, 1)),
        customer(15, "South", "silver", "02-01 08:00", signup_at=at("02-09 00:00")),
        customer(16, "North", "bronze", "02-01 08:00"),
        customer(17, "North", "bronze", "03-02 06:00"),
        customer(18, "West", "gold", "02-01 08:00"),
        # A tier that the shop does not know: a warning, in every build.
        customer(19, "West", "diamond", "02-01 08:00"),
    )
    s.plant("customers", at("03-01 06:01"), customer(18, "West", "gold", "02-01 09:00"))
    s.put(
        "products",
        when,
        product(1, "toys", "2.50", "02-01 08:00"),
        product(2, "books", "10.00", "02-01 08:00"),
        product(3, "books", "0.00", "02-01 08:00"),
        product(5, "games", "-1.00", "02-01 08:00"),
        product(-1, "games", "1.00", "02-01 08:00"),
        {**product(6, "games", "1.00", "02-01 08:00"), "price": None},
    )
    s.plant("products", at("03-01 06:01"), product(1, "toys", "9.99", "02-02 08:00"))
    s.put(
        "orders",
        when,
        order(10, 1, "02-20 10:00"),
        order(11, 2, "02-20 23:30", "delivered"),
        order(12, 3, "02-21 10:00"),
        order(14, 4, "02-22 10:00", "mislaid"),
        order(15, 6, "02-23 10:00"),
        order(16, 5, "02-24 10:00"),
        order(17, 8, "02-29 23:30", "returned"),
        {**order(18, 1, "02-20 10:00"), "ordered_at": None},
        {**order(19, 1, "02-20 10:00"), "updated_at": at("2999-01-01 00:00")},
        order(20, 9, "02-20 10:00"),
        order(21, 14, "02-20 10:00"),
    )
    s.plant("orders", at("03-01 06:01"), order(10, 9, "02-21 10:00"))
    s.put(
        "order_items",
        when,
        line(1, 10, 1, 2, "2.50"),
        line(2, 10, 2, 1, "10.00"),
        line(1, 11, 2, 3, "9.99"),
        line(1, 12, 1, 1, "2.50"),
        line(2, 12, 4, 4, "1.25"),
        line(3, 12, 1, 0, "2.50"),
        line(1, 13, 2, 1, "10.00"),
        line(1, 14, 2, 1, "10.00"),
        line(1, 15, 3, 1, "0.00"),
        line(1, 16, 5, 2, "7.00"),
        line(1, 17, 1, 1, "2.50"),
        line(1, 18, 1, 1, "2.50"),
        line(1, 19, 1, 1, "2.50"),
        line(1, 20, 6, 1, "1.00"),
        line(2, 20, 1, 2147483647, "9999999999.99"),
        line(3, 20, 1, 1, "-0.01"),
        {**line(4, 20, 1, 1, "1.00"), "unit_price": None},
        {**line(5, 20, 1, 1, "1.00"), "quantity": None},
        {**line(6, 20, 1, 1, "1.00"), "line_number": None},
        line(7, 20, -1, 1, "3.00"),
        line(1, 21, 2, 1, "10.00"),
    )
    s.plant("order_items", at("03-01 06:01"), line(1, 10, 2, 7, "2.50"))
    s.put(
        "interactions",
        when,
        event(1, 1, 1, "view", "02-20 09:00"),
        event(2, 1, 1, "purchase", "02-20 10:00"),
        event(3, 2, 2, "view", "02-20 23:59:59.999999"),
        event(4, 3, None, "search", "02-21 00:00"),
        event(5, 4, 2, "click", "2022-02-28 12:00"),
        event(6, 4, 2, "click", "2022-03-01 12:00"),
        event(7, 5, 4, "wishlist", "02-24 10:00"),
        event(8, 6, 99, "view", "02-25 10:00"),
        event(9, 7, 3, "review", "02-25 10:00"),
        event(10, 10, 1, "view", "02-25 11:00"),
        event(11, 1, 1, "gaze", "02-25 11:00"),
        event(12, 3, 1, "view", "02-28 10:00"),
        event(13, 12, 1, "view", "02-05 10:00"),
        event(14, 12, 1, "view", "02-20 10:00"),
        {**event(15, 1, 1, "view", "02-25 11:00"), "occurred_at": None},
        event(16, 1, 1, "view", "1899-12-31 23:59:59"),
        event(17, 1, 1, "view", "2999-01-01 00:00"),
        event(18, None, None, "view", "02-25 11:00"),
        event(19, -1, -1, "view", "02-25 11:00"),
        event(100, 0, 6, "purchase", "02-25 11:00"),
        event(101, 13, 6, "view", "02-25 11:00"),
        event(102, 14, 1, "view", "02-25 11:00"),
        event(103, 15, 1, "view", "01-25 11:00"),
        event(104, 16, 1, "view", "01-25 11:00"),
        event(105, 16, 1, "view", "02-25 11:00"),
        event(106, 17, 1, "view", "02-25 11:00"),
    )
    s.plant("interactions", at("03-01 06:01"), event(1, 1, 1, "view", "02-22 09:00"))


def second(s: Staging) -> None:
    """Moves, deletes, a cancelled order, an order that was missing."""
    when = at("03-02 06:00")
    s.put("customers", when, customer(1, "North", "gold", "03-01 12:00"))
    # Two captures between two builds, and one that only changes the address.
    s.put("customers", at("03-01 18:00"), customer(2, "North", "silver", "03-01 09:00"))
    s.put("customers", when, customer(2, "West", "silver", "03-01 20:00"))
    s.put(
        "customers",
        when,
        customer(6, "West", "bronze", "03-01 10:00", email="new6@example.com"),
    )
    s.delete("customers", when, 3)
    s.delete("customers", when, 14)
    # A delete seen at the instant of the last update.
    s.delete("customers", when, 17)
    # A change whose `updated_at` is the one of the only version.
    s.put("customers", when, customer(16, "North", "gold", "02-01 08:00"))
    # A transaction that waited for the other's row: committed last, stamped before.
    s.put("customers", at("03-01 18:00"), customer(15, "South", "gold", "03-01 12:00"))
    s.put("customers", when, customer(15, "South", "platinum", "03-01 11:00"))
    s.put("customers", at("03-01 18:00"), customer(8, "North", "silver", "03-01 10:00"))
    s.put("customers", when, customer(8, "East", "silver", "03-01 19:00"))
    s.put("customers", at("03-01 18:00"), customer(9, "East", "silver", "03-01 10:00"))
    s.put("customers", when, customer(9, "East", "gold", "03-01 10:00"))
    s.put("products", when, product(4, "garden", "1.25", "03-01 10:00"))
    s.delete("products", when, 3)
    s.put("orders", when, order(10, 1, "02-20 10:00", "cancelled"))
    s.put("orders", when, order(13, 7, "02-27 10:00"))
    s.delete("order_items", when, (12, 1))
    s.put(
        "interactions",
        when,
        event(20, 1, 1, "view", "03-01 11:59:59.999999"),
        event(21, 1, 1, "view", "03-01 12:00"),
        event(22, 2, 2, "purchase", "03-01 09:30"),
        event(23, 2, 2, "purchase", "03-01 20:30"),
        event(24, 8, 2, "click", "03-01 11:00"),
        event(25, 9, 2, "click", "03-01 10:00"),
        event(26, 3, 1, "view", "03-02 05:00"),
        event(27, 15, 1, "view", "03-01 11:30"),
        event(28, 15, 1, "view", "03-01 12:30"),
        event(29, 17, 1, "view", "03-02 06:00"),
    )


def third(s: Staging) -> None:
    """Late events, late arrivals, a return, corrections."""
    when = at("03-03 06:00")
    s.put("customers", when, customer(5, "South", "platinum", "03-02 10:00"))
    s.put("customers", when, customer(3, "South", "gold", "02-01 08:00"))
    s.put(
        "customers",
        when,
        customer(6, "West", "bronze", "03-02 10:00", birth_date=date(2010, 6, 1)),
    )
    s.put("customers", when, customer(10, "East", "bronze", "03-02 08:00"))
    # Its state again at a later time, another tier at an earlier one.
    s.put("customers", at("03-02 18:00"), customer(15, "South", "gold", "03-01 13:00"))
    s.put("customers", when, customer(15, "South", "platinum", "03-01 12:45"))
    # Back with a time after the delete, then changed with one before it.
    s.put(
        "customers", at("03-02 18:00"), customer(14, "South", "silver", "03-02 09:00")
    )
    s.put("customers", when, customer(14, "South", "bronze", "03-01 00:00"))
    # The clock of the row went back behind its only version.
    s.put("customers", when, customer(12, "South", "gold", "02-01 00:00"))
    s.put("products", when, product(2, "comics", "10.00", "03-02 10:00"))
    s.put("products", when, product(5, "games", "7.00", "03-02 10:00"))
    s.delete("orders", when, 11)
    s.put("orders", when, order(20, 1, "02-20 10:00"))
    # A line that goes to another order.
    s.delete("order_items", when, (12, 2))
    s.put("order_items", when, line(1, 22, 4, 4, "1.25"))
    s.put("orders", when, order(15, 6, "01-23 10:00"))
    s.put(
        "interactions",
        when,
        event(30, 1, 1, "view", "03-01 09:00"),
        event(31, 1, 1, "view", "03-01 18:00"),
        event(32, 3, 1, "view", "03-02 12:00"),
        event(33, 3, 1, "view", "03-03 06:00"),
        event(34, 99, 1, "purchase", "03-02 12:00"),
        event(35, 1, 1, "click", "03-03 03:00"),
    )
    # The same key again, on another day and in another batch.
    s.plant("interactions", when, event(20, 1, 1, "view", "03-02 11:00"))


def fourth(s: Staging) -> None:
    """What was wrong is put right; a faulty product, a second delete."""
    when = at("03-04 06:00")
    s.put("orders", when, order(14, 4, "02-22 10:00", "paid"))
    s.put("orders", when, order(22, 3, "02-22 10:00", "paid"))
    s.put("products", when, product(3, "books", "0.00", "03-03 10:00"))
    s.put("order_items", when, line(3, 12, 1, 5, "2.50"))
    s.put("products", when, product(1, "toys", "-2.50", "03-03 10:00"))
    s.put(
        "customers", when, customer(7, "West", "silver", "03-03 10:00", signup_at=None)
    )
    s.delete("customers", when, 3)
    s.put("interactions", when, event(40, 3, 4, "view", "03-04 06:00"))
    # What `ecom ingest --full` finds of a log that was written to after all: rows that
    # are gone, another day, another type, a fault, a fault that was put right.
    s.delete("interactions", when, 22, 35)
    s.put(
        "interactions",
        when,
        event(4, 3, None, "search", "02-26 08:00"),
        event(9, 7, 3, "view", "02-25 10:00"),
        event(11, 1, 1, "view", "02-25 11:00"),
        event(31, 1, 1, "gaze", "03-01 18:00"),
    )
    s.delete("order_items", when, (17, 1))
    # From before the year that Iceberg counts months from.
    s.put("orders", when, order(23, 1, "1965-06-01 10:00"))
    s.put("order_items", when, line(1, 23, 1, 1, "2.00"))
    s.put("order_items", when, line(1, 10, 1, 3, "2.50"))


def fifth(s: Staging) -> None:
    """The birth date of a customer with two versions, and nothing else."""
    born = date(1950, 1, 1)
    s.put(
        "customers",
        at("03-05 06:00"),
        customer(1, "North", "gold", "03-04 12:00", birth_date=born),
    )


BUILDS: list[Callable[[Staging], None]] = [first, second, third, fourth, fifth]
