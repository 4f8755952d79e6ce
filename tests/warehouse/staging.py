"""Hand-written staged rows, put where `ecom ingest` would land them."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from tests.warehouse.engine import Engine

Row = dict[str, Any]

COLUMNS = {
    "customers": "customer_id bigint, full_name string, email string, birth_date date, "
    "region string, loyalty_tier string, signup_at timestamp, updated_at timestamp",
    "products": "product_id bigint, product_name string, category string, "
    "price decimal(12,2), updated_at timestamp",
    "orders": "order_id bigint, customer_id bigint, ordered_at timestamp, "
    "status string, updated_at timestamp",
    "order_items": "order_id bigint, line_number int, product_id bigint, quantity int, "
    "unit_price decimal(12,2), updated_at timestamp",
    "interactions": "interaction_id bigint, customer_id bigint, product_id bigint, "
    "interaction_type string, occurred_at timestamp, session_id string, "
    "device string, recorded_at timestamp",
}
TECHNICAL = "_cdc_batch_id string, _cdc_loaded_at timestamp, _cdc_deleted_at timestamp"
KEYS = {
    "customers": ("customer_id",),
    "products": ("product_id",),
    "orders": ("order_id",),
    "order_items": ("order_id", "line_number"),
    "interactions": ("interaction_id",),
}


def column_names(table: str) -> list[str]:
    """Names of a staged table's columns, technical ones last."""
    text = f"{COLUMNS[table]}, {TECHNICAL}"
    # A decimal's own comma does not part columns.
    return [part.split()[0] for part in text.replace("(12,2)", "").split(", ")]


@dataclass
class Staging:
    """The staged tables, in the engine and as rows in memory.

    Attributes:
        rows: table -> what is staged now, one dict a row.
        history: every captured version of a customer, in order.
    """

    engine: Engine
    rows: dict[str, list[Row]] = field(default_factory=lambda: {t: [] for t in COLUMNS})
    history: list[Row] = field(default_factory=list)
    _written: int = 0

    def create(self) -> None:
        """Make the empty tables anew."""
        self.engine.run("create schema if not exists staging")
        for table, columns in COLUMNS.items():
            self._create(table, columns)
        self._create("customers__history", COLUMNS["customers"])

    def _create(self, table: str, columns: str) -> None:
        self.engine.run(f"drop table if exists staging.{table} purge")
        self.engine.run(
            f"create table staging.{table} ({columns}, {TECHNICAL}) using iceberg"
        )

    def put(self, table: str, loaded_at: datetime, *new: Row) -> None:
        """Insert or update rows by key, as one batch loaded at `loaded_at`."""
        for row in new:
            full = {name: row.get(name) for name in column_names(table)}
            full |= {"_cdc_batch_id": f"b{loaded_at:%Y%m%d%H%M}"}
            full |= {"_cdc_loaded_at": loaded_at, "_cdc_deleted_at": None}
            if "updated_at" in full and full["updated_at"] is None:
                full["updated_at"] = loaded_at
            if "recorded_at" in full and full["recorded_at"] is None:
                full["recorded_at"] = full["occurred_at"] or loaded_at
            self._forget(table, full)
            self.rows[table].append(full)
            if table == "customers":
                self.history.append(full)

    def plant(self, table: str, loaded_at: datetime, row: Row) -> None:
        """Add a row beside the one that has its key already."""
        before = list(self.rows[table])
        self.put(table, loaded_at, row)
        self.rows[table] = [*before, self.rows[table][-1]]

    def delete(self, table: str, seen_at: datetime, *keys: Any) -> None:
        """Mark rows as deleted in the source, seen and loaded at `seen_at`."""
        for key in keys:
            wanted = key if isinstance(key, tuple) else (key,)
            (row,) = [r for r in self.rows[table] if self._key(table, r) == wanted]
            marked = row | {"_cdc_loaded_at": seen_at, "_cdc_deleted_at": seen_at}
            self._forget(table, marked)
            self.rows[table].append(marked)
            if table == "customers":
                self.history.append(marked)

    def write(self) -> None:
        """Make the engine's tables hold the rows in memory."""
        for table, rows in self.rows.items():
            self.engine.run(f"delete from staging.{table}")
            self._insert(table, table, rows)
        self._insert("customers__history", "customers", self.history[self._written :])
        self._written = len(self.history)

    def _insert(self, name: str, table: str, rows: list[Row]) -> None:
        columns = column_names(table)
        typed = [[row[column] for column in columns] for row in rows]
        self.engine.insert(f"staging.{name}", columns, typed)

    def _forget(self, table: str, row: Row) -> None:
        key = self._key(table, row)
        if None in key:
            return
        self.rows[table] = [r for r in self.rows[table] if self._key(table, r) != key]

    def _key(self, table: str, row: Row) -> tuple[Any, ...]:
        return tuple(row[name] for name in KEYS[table])
