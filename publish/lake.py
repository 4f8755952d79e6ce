"""The warehouse's tables as publishing sees them: branches, snapshots, procedures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from common.errors import DataError, ServiceError
from common.settings import Settings
from stack.endpoints import thrift_address
from stack.thrift import CATALOG

SCHEMAS = ("snapshots", "core", "marts")
USER = "ecom_transform"
PARALLEL = 4
MAIN = "main"


class Lake:
    """A few warm HiveServer2 sessions on the warehouse."""

    def __init__(self, connections: Sequence[Any]) -> None:
        self._connections = list(connections)

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        """All rows of one statement.

        Raises:
            DataError: the engine refused it; its own first line is quoted.
        """
        return _execute(self._connections[0], statement)

    def each(self, statements: Sequence[str]) -> None:
        """Run statements side by side, each once, in no order."""
        count = len(self._connections)
        shares = [statements[start::count] for start in range(count)]

        def work(connection: Any, share: Sequence[str]) -> None:
            for statement in share:
                _execute(connection, statement)

        with ThreadPoolExecutor(count) as pool:
            for done in [
                pool.submit(work, connection, share)
                for connection, share in zip(self._connections, shares)
            ]:
                done.result()

    def tables(self) -> list[str]:
        """Every table of the published schemas, as `schema.table`."""
        found = []
        present = {row[0] for row in self.rows("SHOW NAMESPACES")}
        for schema in SCHEMAS:
            if schema in present:
                rows = self.rows(f"SHOW TABLES IN {schema}")
                found += [f"{schema}.{row[1]}" for row in rows if not row[2]]
        return found

    def heads(self, tables: Sequence[str]) -> dict[str, dict[str, int]]:
        """Table -> branch -> snapshot id."""
        found: dict[str, dict[str, int]] = {table: {} for table in tables}
        if not tables:
            return found
        parts = [
            f"SELECT '{table}' AS t, name, snapshot_id FROM {table}.refs "
            "WHERE type = 'BRANCH'"
            for table in tables
        ]
        for table, name, snapshot in self.rows(" UNION ALL ".join(parts)):
            found[table][name] = int(snapshot)
        return found


def fast_forward(table: str, branch: str) -> str:
    """The statement that makes `main` what `branch` is."""
    return f"CALL {CATALOG}.system.fast_forward('{table}', '{MAIN}', '{branch}')"


def set_current(table: str, snapshot: int) -> str:
    """The statement that makes `main` an older or newer snapshot."""
    return f"CALL {CATALOG}.system.set_current_snapshot('{table}', {snapshot})"


def drop_branch(table: str, branch: str) -> str:
    """The statement that forgets a branch."""
    return f"ALTER TABLE {table} DROP BRANCH IF EXISTS `{branch}`"


def _execute(connection: Any, statement: str) -> list[tuple[Any, ...]]:
    from pyhive import exc

    cursor = connection.cursor(arraysize=10_000)
    try:
        cursor.execute(statement)
        return list(cursor.fetchall()) if cursor.description else []
    except exc.Error as error:
        raise DataError(
            f"The engine refused `{statement[:160]}`: {_reason(error)}",
            "read logs/thrift.log in ECOM_HOME",
        ) from error
    finally:
        cursor.close()


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
    from pyhive import hive
    from thrift.transport.TTransport import TTransportException

    host, port = thrift_address(settings)
    connections: list[Any] = []
    try:
        for _ in range(PARALLEL):
            connections.append(hive.connect(host=host, port=port, username=USER))
    except (TTransportException, OSError) as error:
        raise ServiceError(
            f"Reaching the Spark Thrift server at {host}:{port}: it does not answer",
            "run `ecom up`",
        ) from error
    try:
        yield Lake(connections)
    finally:
        for connection in connections:
            connection.close()
