"""The source, read only: its catalogue, its horizon, one exported snapshot."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

import psycopg2
from psycopg2 import sql

from common.database import Connection, check_address, connect
from common.errors import BusyError, UsageError
from common.progress import say
from ingest.bounds import Horizon
from ingest.manifest import TableSpec
from ingest.types import SourceColumn

APPLICATION = "ecom ingest"
STATEMENT_TIMEOUT_MS = 30 * 60 * 1000
LARGE_TABLE_ROWS = 1_000_000
LOCK_SPACE = 0x45434F4D

HORIZON_SQL = """
    SELECT clock_timestamp(),
        (SELECT min(xact_start) FROM pg_stat_activity
          WHERE pid <> pg_backend_pid() AND xact_start IS NOT NULL
            AND backend_type <> 'autovacuum worker'
            AND (datname = current_database() OR datname IS NULL)),
        (SELECT count(*) FROM pg_prepared_xacts WHERE database = current_database()),
        pg_has_role(current_user, 'pg_read_all_stats', 'USAGE'),
        pg_is_in_recovery()
"""
COLUMNS_SQL = """
    SELECT a.attname, coalesce(b.typname, t.typname),
        CASE WHEN coalesce(b.typname, t.typname) = 'numeric' AND m.typmod >= 4
             THEN ((m.typmod - 4) >> 16) & 65535 END,
        CASE WHEN coalesce(b.typname, t.typname) = 'numeric' AND m.typmod >= 4
             THEN (((m.typmod - 4) & 2047) # 1024) - 1024 END,
        NOT a.attnotnull
    FROM pg_attribute a
    JOIN pg_type t ON t.oid = a.atttypid
    LEFT JOIN pg_type b ON t.typtype = 'd' AND b.oid = t.typbasetype
    CROSS JOIN LATERAL (
        SELECT CASE WHEN t.typtype = 'd' THEN t.typtypmod ELSE a.atttypmod END
    ) m(typmod)
    WHERE a.attrelid = %s::regclass AND a.attnum > 0 AND NOT a.attisdropped
    ORDER BY a.attnum
"""
# Before version 14, PostgreSQL reads the whole heap for a range of its pages.
SIZE_SQL = """
    SELECT greatest(c.reltuples, 0)::bigint,
        pg_relation_size(c.oid) / current_setting('block_size')::bigint,
        pg_table_size(c.oid),
        coalesce(c.relkind IN ('r', 'm') AND m.amname = 'heap', false)
            AND current_setting('server_version_num')::int >= 140000
    FROM pg_class c LEFT JOIN pg_am m ON m.oid = c.relam
    WHERE c.oid = %s::regclass
"""
UNIQUE_SQL = """
    SELECT array_agg(a.attname::text ORDER BY a.attname)
    FROM pg_index i
    JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)
    WHERE i.indrelid = %s::regclass AND i.indisunique AND i.indisvalid
        AND i.indpred IS NULL AND i.indexprs IS NULL
    GROUP BY i.indexrelid
"""
LEADING_SQL = """
    SELECT a.attname FROM pg_index i
    JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
    WHERE i.indrelid = %s::regclass AND i.indisvalid
"""


@dataclass(frozen=True)
class JdbcAddress:
    """How Spark reaches the source; `password` is never printed."""

    url: str
    user: str
    password: str


def jdbc_address(dsn: str) -> JdbcAddress:
    """The JDBC form of a `postgresql://` URL, its query options kept."""
    check_address(dsn)
    parts = urlsplit(dsn)
    # Binary from the first row halves the read (design trap 9).
    options = [
        "prepareThreshold=-1",
        "ApplicationName=ecom%20ingest",
        "tcpKeepAlive=true",
    ]
    options += [f"options=-c%20statement_timeout%3D{STATEMENT_TIMEOUT_MS}"]
    options += [parts.query] if parts.query else []
    name = str(parts.hostname)
    host = f"[{name}]" if ":" in name else name
    return JdbcAddress(
        f"jdbc:postgresql://{host}:{parts.port or 5432}{parts.path}?{'&'.join(options)}",
        unquote(parts.username or ""),
        unquote(parts.password or ""),
    )


@dataclass(frozen=True)
class Storage:
    """How a table lies on the source's disk.

    Attributes:
        pages: pages of its heap.
        table_bytes: bytes with what is stored out of line.
        pages_scannable: whether a range of its pages can be read alone.
    """

    pages: int
    table_bytes: int
    pages_scannable: bool


@dataclass(frozen=True)
class SourceTable:
    """A table as the source has it: its columns and about how large it is."""

    columns: tuple[SourceColumn, ...]
    estimated_rows: int
    storage: Storage


class SourceSession:
    """One read-only connection that holds the snapshot all reads of a run share."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.snapshot_id = ""

    def horizon(self) -> Horizon:
        """Ask for the horizon, THEN take and export the snapshot; see `bounds`."""
        asked_at, oldest, prepared, complete, standby = self._row(HORIZON_SQL)
        system = self._system()
        self._execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        snapshot, xmax = self._row(
            "SELECT pg_export_snapshot(), pg_snapshot_xmax(pg_current_snapshot())::text::bigint"
        )
        self.snapshot_id = snapshot
        return Horizon(
            asked_at, oldest, prepared, complete and not standby, xmax, system, standby
        )

    def describe(self, schema: str, spec: TableSpec) -> SourceTable:
        """Columns and size of a table, checked against its manifest entry.

        Raises:
            UsageError: the table, a column, a unique key or an index is missing.
        """
        name = self._regclass(schema, spec)
        columns = tuple(SourceColumn(*row) for row in self._rows(COLUMNS_SQL, name))
        rows, *storage = self._row(SIZE_SQL, name)
        self._check_columns(spec, columns)
        self._check_key(spec, name)
        self._check_index(spec, name, rows)
        return SourceTable(columns, rows, Storage(*storage))

    def extent(self, schema: str, table: str, column: str) -> tuple[int, int] | None:
        """Least and greatest value of an integer column, or None for no rows."""
        statement = sql.SQL("SELECT min({c}), max({c}) FROM {s}.{t}").format(
            c=sql.Identifier(column), s=sql.Identifier(schema), t=sql.Identifier(table)
        )
        low, high = self._row(statement)
        return None if low is None else (int(low), int(high))

    def count(self, query: str) -> int:
        """Rows of a query, at the snapshot."""
        return int(
            self._row("SELECT count(*) FROM (" + query.replace("%", "%%") + ") q")[0]
        )

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """All rows of a query without parameters, at the snapshot."""
        return self._rows(query.replace("%", "%%"))

    def _system(self) -> str:
        try:
            return str(
                self._row("SELECT system_identifier FROM pg_control_system()")[0]
            )
        except psycopg2.errors.InsufficientPrivilege:
            return ""

    def _regclass(self, schema: str, spec: TableSpec) -> str:
        statement = "SELECT to_regclass(format('%%I.%%I', %s, %s))::oid"
        oid = self._row(statement, schema, spec.name)[0]
        if oid is None:
            raise UsageError(
                f"Line {spec.line}: the source has no table {schema}.{spec.name} "
                "that this user can see",
                "correct the name, or grant USAGE on the schema and SELECT on the table",
            )
        return str(oid)

    def _check_columns(self, spec: TableSpec, columns: Sequence[SourceColumn]) -> None:
        known = [column.name for column in columns]
        wanted = [*spec.key, *spec.columns]
        wanted += [name for name in (spec.cursor, spec.split_by) if name]
        for name in wanted:
            if name not in known:
                raise UsageError(
                    f"Line {spec.line}: {spec.name} has no column {name!r}",
                    f"its columns are {', '.join(known)}",
                )

    def _check_key(self, spec: TableSpec, name: str) -> None:
        unique = [set(row[0]) for row in self._rows(UNIQUE_SQL, name)]
        if not any(columns <= set(spec.key) for columns in unique):
            raise UsageError(
                f"Line {spec.line}: the source does not keep key "
                f"({', '.join(spec.key)}) of {spec.name} unique",
                "name the columns of a primary key or unique index",
            )

    def _check_index(self, spec: TableSpec, name: str, rows: int) -> None:
        if spec.cursor is None or rows < LARGE_TABLE_ROWS:
            return
        leading = {row[0] for row in self._rows(LEADING_SQL, name)}
        if spec.cursor not in leading:
            raise UsageError(
                f"Line {spec.line}: {spec.name} has {rows:,} rows and no index on "
                f"its cursor {spec.cursor}",
                f"create one: CREATE INDEX CONCURRENTLY ON {spec.name} ({spec.cursor})",
            )

    def _execute(self, statement: Any, *values: Any) -> None:
        with self.connection.cursor() as cursor:
            cursor.execute(statement, values or None)

    def _rows(self, statement: Any, *values: Any) -> list[tuple[Any, ...]]:
        with self.connection.cursor() as cursor:
            cursor.execute(statement, values)
            return cursor.fetchall()

    def _row(self, statement: Any, *values: Any) -> tuple[Any, ...]:
        return self._rows(statement, *values)[0]


@contextmanager
def open_source(dsn: str, target: str) -> Iterator[SourceSession]:
    """A read-only session on the source that also holds this target's lock.

    The lock is PostgreSQL's own, so a dead owner's is gone with its connection.

    Raises:
        ServiceError: the source does not answer.
        UsageError: it refuses the address, user, password or database.
        BusyError: another ingest into the same target is under way.
    """
    connection = connect(
        dsn,
        APPLICATION,
        f"-c statement_timeout={STATEMENT_TIMEOUT_MS} "
        "-c default_transaction_read_only=on -c timezone=UTC",
    )
    connection.autocommit = True
    try:
        _take_lock(connection, target)
        yield SourceSession(connection)
    finally:
        connection.close()


def _take_lock(connection: Connection, target: str) -> None:
    key = zlib.crc32(target.encode()) & 0x7FFFFFFF
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s, %s)", (LOCK_SPACE, key))
        row = cursor.fetchone()
        if row and row[0]:
            return
        say(f"Another ingest into {target} is under way; waiting for it (up to 60 s)")
        cursor.execute("SET lock_timeout = '60s'")
        try:
            cursor.execute("SELECT pg_advisory_lock(%s, %s)", (LOCK_SPACE, key))
        except psycopg2.errors.LockNotAvailable:
            raise BusyError(
                f"Another ingest into {target} is still under way",
                "wait for it to end, then run again",
            ) from None
