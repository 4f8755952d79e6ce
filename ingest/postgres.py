"""The source, read only: its catalogue, its horizon, one exported snapshot."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit
from urllib.parse import quote as url_quote

import psycopg2
from psycopg2 import sql

from common.database import Connection, check_address, connect
from common.errors import BusyError, ServiceError
from common.progress import say
from ingest import catalogue
from ingest.bounds import Horizon
from ingest.catalogue import SourceTable
from ingest.manifest import TableSpec

APPLICATION = "ecom ingest"
# What PostgreSQL writes as text must not depend on who reads it.
TEXT_SETTINGS = {
    "timezone": "UTC", "datestyle": "ISO", "intervalstyle": "postgres",
    "extra_float_digits": "1", "bytea_output": "hex",
}  # fmt: skip
STATEMENT_TIMEOUT_MS = 30 * 60 * 1000
LOCK_SPACE = 0x45434F4D

HORIZON_SQL = """
    SELECT clock_timestamp(),
        (SELECT min(xact_start) FROM pg_stat_activity
          WHERE pid <> pg_backend_pid() AND xact_start IS NOT NULL
            AND backend_type <> 'autovacuum worker'
            AND (datname = current_database() OR datname IS NULL)),
        (SELECT count(*) FROM pg_prepared_xacts WHERE database = current_database()),
        pg_has_role(current_user, 'pg_read_all_stats', 'USAGE')
            AND current_setting('track_activities')::bool
            AND NOT EXISTS (SELECT FROM pg_stat_activity WHERE state = 'disabled'),
        pg_is_in_recovery()
"""
SNAPSHOT_SQL = """
    SELECT pg_export_snapshot(), pg_snapshot_xmin(s)::text::bigint,
        pg_snapshot_xmax(s)::text::bigint
    FROM pg_current_snapshot() s
"""
SYSTEM_SQL = """
    SELECT system_identifier || '/' || (SELECT oid FROM pg_database WHERE datname = current_database()),
        CASE WHEN pg_is_in_recovery() THEN (SELECT timeline_id FROM pg_control_checkpoint())
             ELSE ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int END
    FROM pg_control_system()
"""
# A run's snapshot lives in a transaction that waits while Spark reads.
PATIENCE_SQL = """
    SELECT set_config(name, '0', false) FROM pg_settings WHERE name IN
        ('idle_in_transaction_session_timeout', 'idle_session_timeout', 'transaction_timeout')
"""
# Options of a DSN that mean nothing to JDBC, or that ingest sets itself.
LIBPQ_ONLY = {
    "user", "password", "options", "application_name", "connect_timeout",
    "target_session_attrs", "fallback_application_name", "client_encoding",
}  # fmt: skip


@dataclass(frozen=True)
class JdbcAddress:
    """How Spark reaches the source; `password` is never printed."""

    url: str
    user: str
    password: str


@dataclass(frozen=True)
class Window:
    """What a read will bring.

    Attributes:
        fit: rows that can be represented.
        unfit: rows that cannot.
        old: whether moments before `statements.OLD` are among the former.
        extent: least and greatest of their integer key; None for no row or no such key.
    """

    fit: int
    unfit: int
    old: bool
    extent: tuple[int, int] | None


def jdbc_address(dsn: str) -> JdbcAddress:
    """The JDBC form of a `postgresql://` URL, its query options kept."""
    check_address(dsn)
    parts = urlsplit(dsn)
    given = parse_qsl(parts.query)
    secrets = dict(given)
    # Binary from the first row halves the read (design trap 9).
    options = [
        ("prepareThreshold", "-1"), ("ApplicationName", APPLICATION),
        ("tcpKeepAlive", "true"),
        ("options", f"-c statement_timeout={STATEMENT_TIMEOUT_MS}"),
        *((name, value) for name, value in given if name not in LIBPQ_ONLY),
    ]  # fmt: skip
    name = str(parts.hostname)
    host = f"[{name}]" if ":" in name else name
    return JdbcAddress(
        f"jdbc:postgresql://{host}:{parts.port or 5432}{parts.path}"
        f"?{urlencode(options, quote_via=url_quote)}",
        unquote(parts.username or "") or secrets.get("user", ""),
        unquote(parts.password or "") or secrets.get("password", ""),
    )


def join_snapshot(snapshot: str) -> str:
    """What a reader's connection runs first: join the snapshot, write texts our way."""
    settings = {**TEXT_SETTINGS, "idle_in_transaction_session_timeout": "0"}
    return (
        "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; "
        f"SET TRANSACTION SNAPSHOT '{snapshot}'; "
        + "; ".join(f"SET LOCAL {name} = '{value}'" for name, value in settings.items())
    )


class SourceSession:
    """One read-only connection that holds the snapshot all reads of a run share."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.snapshot_id = ""

    def horizon(self) -> Horizon:
        """Ask for the horizon, THEN take and export the snapshot; see `bounds`."""
        asked_at, oldest, prepared, complete, standby = self._row(HORIZON_SQL)
        system, timeline = self._system()
        self._execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        self.snapshot_id, xmin, xmax = self._row(SNAPSHOT_SQL)
        return Horizon(
            asked_at, oldest, prepared, complete and not standby, xmin, xmax,
            system, timeline, standby,
        )  # fmt: skip

    def describe(self, schema: str, spec: TableSpec) -> SourceTable:
        """A table as it is, checked against its manifest entry; see `catalogue`."""
        return catalogue.describe(self._rows, schema, spec)

    def greatest(self, schema: str, table: str, column: str) -> int | None:
        """Greatest value of an integer column that is visible now, or None."""
        found = self.extent(schema, table, column)
        return found[1] if found else None

    def extent(self, schema: str, table: str, column: str) -> tuple[int, int] | None:
        """Least and greatest value of an integer column, or None for no rows."""
        statement = sql.SQL("SELECT min({c}), max({c}) FROM {s}.{t}").format(
            c=sql.Identifier(column), s=sql.Identifier(schema), t=sql.Identifier(table)
        )
        low, high = self._row(statement)
        return None if low is None else (int(low), int(high))

    def count_window(self, query: str) -> Window:
        """What `statements.count_window` asks, at the snapshot."""
        fit, unfit, old, low, high = self.rows(query)[0]
        return Window(fit, unfit, old, None if low is None else (int(low), int(high)))

    def count(self, query: str) -> int:
        """Rows of a query, at the snapshot."""
        return int(
            self._row("SELECT count(*) FROM (" + query.replace("%", "%%") + ") q")[0]
        )

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """All rows of a query without parameters, at the snapshot."""
        return self._rows(query.replace("%", "%%"))

    def answers(self) -> bool:
        """Whether the connection, and with it the snapshot, is still there."""
        try:
            self._row("SELECT 1")
        except psycopg2.OperationalError:
            return False
        except psycopg2.Error:
            return self.connection.closed == 0
        return True

    def _system(self) -> tuple[str, int]:
        try:
            system, timeline = self._row(SYSTEM_SQL)
        except psycopg2.errors.InsufficientPrivilege:
            return "", 0
        return str(system), int(timeline)

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
        "-c default_transaction_read_only=on "
        + " ".join(f"-c {name}={value}" for name, value in TEXT_SETTINGS.items()),
    )
    connection.autocommit = True
    try:
        with connection.cursor() as cursor:
            cursor.execute(PATIENCE_SQL)
        _take_lock(connection, target)
        yield SourceSession(connection)
    except (psycopg2.OperationalError, psycopg2.InterfaceError) as error:
        if not connection.closed:
            raise
        raise ServiceError(
            f"Reading the source: it closed the connection: {str(error).strip()}",
            "see that PostgreSQL runs (`ecom status`), then run again",
        ) from None
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
