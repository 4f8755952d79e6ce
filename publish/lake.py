"""The warehouse's tables as publishing sees them: branches, snapshots, procedures."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from common.errors import DataError, ServiceError
from common.settings import Settings
from ingest.statements import spark_literal, tick
from stack.endpoints import thrift_address
from stack.thrift import CATALOG

SCHEMAS = ("snapshots", "core", "marts")
USER = "ecom_transform"
PARALLEL = 4
MAIN = "main"

Rows = list[tuple[Any, ...]]


class Lake:
    """A few warm HiveServer2 sessions on the warehouse.

    Args:
        connections: open PyHive connections.
        prefix: what stands before every schema name.
    """

    def __init__(self, connections: Sequence[Any], prefix: str = "") -> None:
        self._connections = list(connections)
        self._prefix = prefix

    def schema(self, name: str) -> str:
        """The name this target gives to one of the warehouse's schemas."""
        return self._prefix + name

    def rows(self, statement: str) -> Rows:
        """All rows of one statement.

        Raises:
            DataError: the engine refused it; its own first line is quoted.
            ServiceError: the engine is gone.
        """
        return _execute(self._connections[0], statement)[1]

    def table(self, statement: str) -> tuple[list[str], Rows]:
        """Column names and rows of one statement; errors as of `rows`."""
        return _execute(self._connections[0], statement)

    def each(self, statements: Iterable[str]) -> list[Rows]:
        """Run statements side by side, each once, in no order; their rows, in order.

        Raises:
            DataError, ServiceError: the first failure, once all have been tried.
        """
        waiting = deque(enumerate(statements))
        done: dict[int, Rows] = {}
        failures: list[Exception] = []

        def work(connection: Any) -> None:
            while True:
                try:
                    number, statement = waiting.popleft()
                except IndexError:
                    return
                try:
                    done[number] = _execute(connection, statement)[1]
                except (DataError, ServiceError) as error:
                    failures.append(error)

        if waiting:
            with ThreadPoolExecutor(len(self._connections)) as pool:
                list(pool.map(work, self._connections))
        if failures:
            raise failures[0]
        return [done[number] for number in sorted(done)]

    def tables(self, schemas: Sequence[str] = SCHEMAS) -> list[str]:
        """Every table of the published schemas, or of those given, `schema.table`."""
        present = {row[0] for row in self.rows("SHOW NAMESPACES")}
        named = [self.schema(name) for name in schemas]
        listed = self.each(
            f"SHOW TABLES IN {tick(name)}" for name in named if name in present
        )
        return [f"{row[0]}.{row[1]}" for rows in listed for row in rows if not row[2]]

    def heads(self, tables: Sequence[str]) -> dict[str, dict[str, int]]:
        """Table -> branch -> snapshot id."""
        found: dict[str, dict[str, int]] = {table: {} for table in tables}
        parts = [
            f"SELECT {spark_literal(table)} AS t, name, snapshot_id FROM "
            f"{quoted(table)}.refs WHERE type = 'BRANCH'"
            for table in tables
        ]
        # Planning is most of it, so each session plans its share.
        shares = [parts[number::PARALLEL] for number in range(PARALLEL)]
        for rows in self.each(" UNION ALL ".join(share) for share in shares if share):
            for table, name, snapshot in rows:
                found[table][name] = int(snapshot)
        return found

    def expired(self, snapshots: Iterable[tuple[str, int]]) -> list[str]:
        """Those of the tables whose snapshot is not there any more."""
        wanted = list(snapshots)
        parts = [
            f"SELECT {spark_literal(table)} FROM {quoted(table)}.snapshots "
            f"WHERE snapshot_id = {snapshot}"
            for table, snapshot in wanted
        ]
        kept = {row[0] for row in self.rows(" UNION ALL ".join(parts))} if parts else ()
        return [table for table, _ in wanted if table not in kept]

    def columns_since(self, shown: Mapping[str, int]) -> dict[str, list[str]]:
        """Table -> columns it has and one of its snapshots had not, where any."""
        now = self.each(f"DESCRIBE QUERY SELECT * FROM {quoted(t)}" for t in shown)
        then = self.each(
            f"DESCRIBE QUERY SELECT * FROM {quoted(table)} VERSION AS OF {snapshot}"
            for table, snapshot in shown.items()
        )
        found = {}
        for table, current, before in zip(shown, now, then):
            known = {row[0] for row in before}
            added = [row[0] for row in current if row[0] not in known]
            if added:
                found[table] = added
        return found


def quoted(table: str) -> str:
    """`schema.table` with both parts in backticks."""
    return ".".join(tick(part) for part in table.split(".", 1))


def fast_forward(table: str, branch: str) -> str:
    """The statement that makes `main` what `branch` is, where it descends from it."""
    names = ", ".join(map(spark_literal, (table, MAIN, branch)))
    return f"CALL {CATALOG}.system.fast_forward({names})"


def restore(table: str, snapshot: int | None) -> str:
    """The statement that makes `main` a given snapshot; no snapshot, no table."""
    if snapshot is None:
        return f"DROP TABLE IF EXISTS {quoted(table)} PURGE"
    return f"CALL {CATALOG}.system.set_current_snapshot({spark_literal(table)}, {snapshot})"


def drop_branch(table: str, branch: str) -> str:
    """The statement that forgets a branch."""
    return f"ALTER TABLE {quoted(table)} DROP BRANCH IF EXISTS {tick(branch)}"


def drop_columns(table: str, columns: Sequence[str]) -> str:
    """The statement that takes columns from sight; a snapshot that has them keeps them."""
    return f"ALTER TABLE {quoted(table)} DROP COLUMNS ({', '.join(map(tick, columns))})"


def _execute(connection: Any, statement: str) -> tuple[list[str], Rows]:
    from pyhive import exc
    from thrift.Thrift import TException

    try:
        cursor = connection.cursor(arraysize=10_000)
        cursor.execute(statement)
        described = cursor.description or []
        rows = list(cursor.fetchall()) if described else []
        cursor.close()
    except exc.Error as error:
        raise DataError(
            f"The engine refused `{statement[:160]}`: {_reason(error)}",
            "read logs/thrift.log in ECOM_HOME",
        ) from error
    except (TException, OSError, EOFError) as error:
        raise ServiceError(
            f"The Spark Thrift server went away during `{statement[:160]}`",
            "run `ecom up`, then the same command again",
        ) from error
    return [column[0].split(".")[-1] for column in described], rows


def _reason(error: Any) -> str:
    answer = error.args[0] if error.args else error
    status = getattr(answer, "status", None)
    text = str(getattr(status, "errorMessage", None) or error).strip()
    return (text.splitlines() or ["no reason given"])[0][:300]


@contextmanager
def open_lake(settings: Settings) -> Iterator[Lake]:
    """Sessions on the warehouse, closed at the end.

    Raises:
        ServiceError: the Thrift server does not answer.
    """
    from pyhive import exc, hive
    from thrift.Thrift import TException

    host, port = thrift_address(settings)
    connections: list[Any] = []
    adding = threading.Lock()

    def connect(_: int) -> None:
        connection = hive.connect(host=host, port=port, username=USER)
        with adding:
            connections.append(connection)

    try:
        try:
            with ThreadPoolExecutor(PARALLEL) as pool:
                list(pool.map(connect, range(PARALLEL)))
        except (TException, OSError, EOFError, exc.Error) as error:
            raise ServiceError(
                f"Reaching the Spark Thrift server at {host}:{port}: it does not answer",
                "run `ecom up`",
            ) from error
        yield Lake(connections, settings.schema_prefix)
    finally:
        for connection in connections:
            try:
                connection.close()
            except (TException, OSError, EOFError, exc.Error):
                continue
