"""A connection to the engine under test."""

from __future__ import annotations

import contextlib
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from pyhive import hive


class Engine:
    """SQL over HiveServer2, as readers and dbt use it."""

    def __init__(self, host: str, port: int, branch: str = "") -> None:
        self._connection = hive.connect(host, port, username="ecom_reader")
        if branch:
            self.run(f"set spark.wap.branch={branch}")

    def run(self, sql: str) -> list[tuple[Any, ...]]:
        """Run one statement; its rows, if it gives any."""
        with contextlib.closing(self._connection.cursor()) as cursor:
            cursor.execute(sql)
            if cursor.description is None:
                return []
            return [tuple(row) for row in cursor.fetchall()]

    def table(self, sql: str) -> tuple[list[str], list[tuple[Any, ...]]]:
        """Column names and rows of a query."""
        with contextlib.closing(self._connection.cursor()) as cursor:
            cursor.execute(sql)
            names = [column[0].split(".")[-1] for column in cursor.description]
            return names, [tuple(row) for row in cursor.fetchall()]

    def insert(self, table: str, columns: list[str], rows: list[list[Any]]) -> None:
        """Insert rows of some columns; the others are null."""
        if not rows:
            return
        values = ", ".join(
            "(" + ", ".join(literal(value) for value in row) + ")" for row in rows
        )
        self.run(f"insert into {table} ({', '.join(columns)}) values {values}")

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def literal(value: Any) -> str:
    """A value as a Spark SQL literal."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return f"timestamp '{value:%Y-%m-%d %H:%M:%S.%f}'"
    if isinstance(value, date):
        return f"date '{value}'"
    if isinstance(value, (int, Decimal)):
        return str(value)
    return "'" + str(value).replace("\\", "\\\\").replace("'", "\\'") + "'"


def tell_that_it_is_ours(engine: Engine, table: str) -> None:
    """Have a table that was written by hand pass for what the last build left."""
    [(version,)] = engine.run(
        f"select snapshot_id from {table}.refs where name = 'main'"
    )
    engine.run(
        f"update core.build_state set mark = '{version}' "
        f"where input = 'itself' and model = '{table.split('.')[1]}'"
    )
