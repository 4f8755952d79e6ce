"""The five tables of the shop, said once; schema, generator and CSV door follow."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

TIERS = ("bronze", "silver", "gold", "platinum")
STATUSES = ("placed", "paid", "shipped", "delivered", "cancelled", "returned")
TYPES = (
    "view", "search", "click", "add_to_cart", "wishlist", "purchase", "review",
)  # fmt: skip
DEVICES = ("mobile", "desktop", "tablet")

MOMENT = pa.timestamp("us", "UTC")
MONEY = pa.decimal128(12, 2)
# PostgreSQL's uuid travels in binary COPY as its 16 bytes.
UUID = pa.binary(16)

SQL_TYPES = {
    pa.int64(): "bigint",
    pa.int32(): "integer",
    pa.string(): "text",
    pa.date32(): "date",
    MOMENT: "timestamptz",
    MONEY: "numeric(12,2)",
    UUID: "uuid",
}


@dataclass(frozen=True)
class Column:
    """One column of a source table.

    Attributes:
        name: as in PostgreSQL and in the CSV header.
        type: the Arrow type that is sent by binary COPY.
        nullable: whether the CSV door takes an empty value.
        allowed: the only values the CSV door takes; empty for any.
        least: the least whole number or amount the CSV door takes.
    """

    name: str
    type: pa.DataType
    nullable: bool = False
    allowed: tuple[str, ...] = ()
    least: int | None = None

    @property
    def sql_type(self) -> str:
        """The column's type in PostgreSQL."""
        return SQL_TYPES[self.type]


@dataclass(frozen=True)
class Table:
    """One source table: its columns in order, its key, the cursor ingest reads by."""

    name: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    cursor: str

    @property
    def schema(self) -> pa.Schema:
        """The Arrow schema, columns in table order."""
        return pa.schema([(column.name, column.type) for column in self.columns])

    @property
    def names(self) -> list[str]:
        """Column names in table order."""
        return [column.name for column in self.columns]

    def column(self, name: str) -> Column:
        """The column called `name`."""
        return next(column for column in self.columns if column.name == name)


CUSTOMERS = Table(
    "customers",
    (
        Column("customer_id", pa.int64()),
        Column("full_name", pa.string()),
        Column("email", pa.string()),
        Column("birth_date", pa.date32(), nullable=True),
        Column("region", pa.string()),
        Column("loyalty_tier", pa.string(), allowed=TIERS),
        Column("signup_at", MOMENT),
        Column("updated_at", MOMENT),
    ),
    ("customer_id",),
    "updated_at",
)
PRODUCTS = Table(
    "products",
    (
        Column("product_id", pa.int64()),
        Column("product_name", pa.string()),
        Column("category", pa.string()),
        Column("price", MONEY, least=0),
        Column("updated_at", MOMENT),
    ),
    ("product_id",),
    "updated_at",
)
ORDERS = Table(
    "orders",
    (
        Column("order_id", pa.int64()),
        Column("customer_id", pa.int64()),
        Column("ordered_at", MOMENT),
        Column("status", pa.string(), allowed=STATUSES),
        Column("updated_at", MOMENT),
    ),
    ("order_id",),
    "updated_at",
)
ORDER_ITEMS = Table(
    "order_items",
    (
        Column("order_id", pa.int64()),
        Column("line_number", pa.int32(), least=1),
        Column("product_id", pa.int64()),
        Column("quantity", pa.int32(), least=1),
        Column("unit_price", MONEY, least=0),
        Column("updated_at", MOMENT),
    ),
    ("order_id", "line_number"),
    "updated_at",
)
INTERACTIONS = Table(
    "interactions",
    (
        Column("interaction_id", pa.int64()),
        Column("customer_id", pa.int64()),
        Column("product_id", pa.int64(), nullable=True),
        Column("interaction_type", pa.string(), allowed=TYPES),
        Column("occurred_at", MOMENT),
        Column("session_id", UUID),
        Column("device", pa.string()),
        Column("recorded_at", MOMENT),
    ),
    ("interaction_id",),
    "recorded_at",
)
TABLES = (CUSTOMERS, PRODUCTS, ORDERS, ORDER_ITEMS, INTERACTIONS)
