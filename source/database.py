"""Connections to the source database, and errors a person can act on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeAlias

import psycopg2
from psycopg2 import extensions
from psycopg2.extensions import parse_dsn

from common.errors import DataError, EcomError, ServiceError, UsageError
from common.settings import Settings
from stack.endpoints import source_dsn

Connection: TypeAlias = extensions.connection
Cursor: TypeAlias = extensions.cursor


def place(dsn: str) -> str:
    """`host:port/database` of a DSN: what a message may show of it."""
    try:
        parts = parse_dsn(dsn)
    except psycopg2.ProgrammingError:
        return "the address in ECOM_SOURCE_DSN"
    host, port = parts.get("host", "localhost"), parts.get("port", "5432")
    return f"{host}:{port}/{parts.get('dbname', '')}"


def connect(settings: Settings) -> Connection:
    """A connection to the source as the owner of the shop's tables, in UTC.

    Raises:
        ServiceError: the database is not reachable.
        UsageError: the address or the credentials are wrong.
    """
    dsn = source_dsn(settings, "owner")
    try:
        return psycopg2.connect(
            dsn,
            connect_timeout=10,
            application_name="ecom source",
            options="-c timezone=UTC -c client_encoding=UTF8",
        )
    except psycopg2.OperationalError as error:
        raise _unreachable(dsn, error) from None
    except psycopg2.ProgrammingError:
        raise UsageError(
            "Connecting to the source: ECOM_SOURCE_DSN is not a PostgreSQL address",
            "set it as postgresql://user:password@host:5432/database",
        ) from None


def _unreachable(dsn: str, error: psycopg2.OperationalError) -> EcomError:
    said = str(error).strip().splitlines()
    reason = said[-1] if said else "no reason given"
    doing = f"Connecting to the source at {place(dsn)}: {reason}"
    marks = ("authentication", "not exist", "role", "invalid", "could not translate")
    if any(mark in reason for mark in marks):
        return UsageError(
            doing, "correct user, password or database in ECOM_SOURCE_DSN"
        )
    return ServiceError(doing, "start it (`ecom up` for the embedded one), then retry")


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
