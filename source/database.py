"""Connections to the source database, and errors a person can act on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeAlias

import psycopg2
from psycopg2 import extensions

from common import database
from common.database import Connection
from common.errors import DataError, ServiceError, UsageError
from common.settings import Settings
from stack.endpoints import source_dsn

Cursor: TypeAlias = extensions.cursor


def connect(settings: Settings) -> Connection:
    """A connection to the source as the owner of the shop's tables, in UTC.

    Raises:
        ServiceError: the database is not reachable.
        UsageError: the address or the credentials are wrong.
    """
    return database.connect(
        source_dsn(settings, "owner"),
        "ecom source",
        "-c timezone=UTC -c client_encoding=UTF8",
    )


@contextmanager
def transaction(settings: Settings, doing: str) -> Iterator[Connection]:
    """One transaction: committed when the block ends, else rolled back.

    Args:
        settings: where the source is.
        doing: what is done, for the message of an error ("Making the schema").
    """
    connection = connect(settings)
    try:
        with explained(doing):
            yield connection
            connection.commit()
    finally:
        connection.close()


@contextmanager
def explained(doing: str) -> Iterator[None]:
    """Turn what PostgreSQL raises into an error with a remedy.

    Raises:
        ServiceError: the connection was lost or the server cannot go on.
        UsageError: a right or an object is missing.
        DataError: anything else PostgreSQL refuses.
    """
    try:
        yield
    except psycopg2.errors.InsufficientPrivilege as error:
        raise UsageError(
            f"{doing}: {_first_line(error)}",
            "connect as the owner of the shop's tables, or have the right granted",
        ) from error
    except psycopg2.errors.UndefinedTable as error:
        raise UsageError(
            f"{doing}: {_first_line(error)}", "run `ecom source init` first"
        ) from error
    except psycopg2.errors.LockNotAvailable as error:
        raise DataError(
            f"{doing}: another session holds the tables", "wait for it, then run again"
        ) from error
    except (psycopg2.OperationalError, psycopg2.InterfaceError) as error:
        raise ServiceError(
            f"{doing}: {_first_line(error)}",
            "look at the server's log (disk, memory, restart), then run again",
        ) from error
    except psycopg2.Error as error:
        raise DataError(
            f"{doing}: {_first_line(error)}", "correct what is named, then run again"
        ) from error


def _first_line(error: psycopg2.Error) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    detail = error.diag.message_detail
    return f"{lines[0]} ({detail.splitlines()[0]})" if detail else lines[0]
