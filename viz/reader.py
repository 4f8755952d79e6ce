"""One thin, bounded query layer over HiveServer2: rows in, a DataFrame out."""

from __future__ import annotations

from types import TracebackType
from typing import Any

import pandas as pd
from pyhive import exc, hive
from thrift.transport.TTransport import TTransportException

from common.errors import DataError, ServiceError
from common.settings import Settings
from stack import endpoints

ROW_LIMIT = 20_000
USER = "reader"
_MISSING = (
    "TABLE_OR_VIEW_NOT_FOUND",
    "SCHEMA_NOT_FOUND",
    "NoSuchTable",
    "UNRESOLVED_COLUMN",
)


class MissingRelationError(DataError):
    """A relation or column has not been built yet: run `ecom run`."""


class Reader:
    """A connection to the warehouse, closed at the end of its `with` block.

    Args:
        settings: the user's choices; they say where the Thrift server listens.

    Raises:
        ServiceError: nothing answers at that address.
    """

    def __init__(self, settings: Settings) -> None:
        host, port = endpoints.thrift_address(settings)
        self._address = f"{host}:{port}"
        try:
            self._connection: Any = hive.connect(host=host, port=port, username=USER)
        except (TTransportException, OSError, EOFError, exc.Error) as error:
            raise self._unreachable(error) from error

    def __enter__(self) -> Reader:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._connection.close()

    def rows(self, sql: str, limit: int = ROW_LIMIT) -> pd.DataFrame:
        """Run one query.

        Args:
            sql: a single select.
            limit: the most rows that may come back.

        Returns:
            One column a column of the query, under the names of the query.

        Raises:
            DataError: the query gives more than `limit` rows, or fails.
            MissingRelationError: a relation it reads is not there.
            ServiceError: the server went away.
        """
        cursor = self._connection.cursor(arraysize=limit + 1)
        try:
            cursor.execute(sql)
            fetched = cursor.fetchmany(limit + 1)
            # `select *` comes back as `table.column` from some servers.
            names = [column[0].split(".")[-1] for column in cursor.description]
        except exc.Error as error:
            raise _failed(sql, error) from error
        except (TTransportException, OSError, EOFError) as error:
            raise self._unreachable(error) from error
        finally:
            _close(cursor)
        if len(fetched) > limit:
            raise DataError(
                f"A query of the charts gave more than {limit:,} rows",
                "aggregate in its SQL so that fewer rows leave the engine",
            )
        return pd.DataFrame(fetched, columns=names)

    def rows_or_none(self, sql: str, limit: int = ROW_LIMIT) -> pd.DataFrame | None:
        """As `rows`, or None where a relation or column is not there (yet)."""
        try:
            return self.rows(sql, limit)
        except MissingRelationError:
            return None

    def _unreachable(self, error: BaseException) -> ServiceError:
        return ServiceError(
            f"Reading the marts from the Spark Thrift server at {self._address} "
            f"failed: {type(error).__name__}",
            "run `ecom up`, or `ecom doctor` where it does not start",
        )


def _close(cursor: Any) -> None:
    """Close a cursor; a lost connection has nothing left to close."""
    try:
        cursor.close()
    except (TTransportException, OSError, EOFError, exc.Error):
        return


def _failed(sql: str, error: Exception) -> DataError:
    """The error of a refused query, with the engine's first line of reason."""
    reason = _reason(error)
    if any(mark in str(error) for mark in _MISSING):
        return MissingRelationError(
            f"Reading the marts failed, a relation or column is not there: {reason}",
            "run `ecom run` to build the warehouse",
        )
    first = next((line for line in sql.splitlines() if line.strip()), "")
    return DataError(
        f"Reading the marts failed: {reason} (query: {first.strip()} ...)",
        "look at the query in `analyses/charts/`, then run `ecom charts` again",
    )


def _reason(error: Exception) -> str:
    """The line of a server's answer that says what is wrong."""
    response = error.args[0] if error.args else error
    status = getattr(response, "status", None)
    message = getattr(status, "errorMessage", None) or str(error)
    return str(message).strip().splitlines()[0][:300]
