"""Connections to PostgreSQL, and refusals a person can act on."""

from __future__ import annotations

import re
from typing import TypeAlias
from urllib.parse import urlsplit

import psycopg2
from psycopg2 import extensions
from psycopg2.extensions import parse_dsn

from common.errors import EcomError, ServiceError, UsageError

Connection: TypeAlias = extensions.connection

CONNECT_TIMEOUT = 10
UNESCAPED = re.compile("%(?![0-9A-Fa-f]{2})")
MISCONFIGURED = re.compile(
    "authentication|no password|does not exist|not permitted|permission|invalid"
    "|pg_hba|SSL|could not translate"
)


def place(dsn: str) -> str:
    """`host:port/database` of a DSN: what a message may show of it."""
    try:
        parts = parse_dsn(dsn)
    except psycopg2.ProgrammingError:
        return "the address in ECOM_SOURCE_DSN"
    host, port = parts.get("host", "localhost"), parts.get("port", "5432")
    return f"{host}:{port}/{parts.get('dbname', '')}"


def check_address(dsn: str) -> None:
    """Refuse what is not a `postgresql://user:password@host:port/database` URL.

    A password with an unescaped character would be taken for a part of the address
    and shown in messages, so such a URL is refused unread.

    Raises:
        UsageError: saying how one is written.
    """
    try:
        parts = urlsplit(dsn)
        fits = parts.scheme in ("postgresql", "postgres") and bool(parts.hostname)
        fits = fits and (parts.port is None or parts.port > 0)
        fits = fits and dsn.count("@") == parts.netloc.count("@") <= 1
        fits = fits and not UNESCAPED.search(parts.netloc)
    except ValueError:
        fits = False
    if not fits:
        raise UsageError(
            "Connecting to the source: ECOM_SOURCE_DSN is not a PostgreSQL address",
            "set it as postgresql://user:password@host:5432/database, special characters"
            " of the password percent-encoded (@ as %40, % as %25, / as %2F)",
        )


def connect(dsn: str, application: str, options: str) -> Connection:
    """A connection to the source database.

    Args:
        dsn: a `postgresql://` URL.
        application: the name under which the server lists the session.
        options: the session's settings, as `-c name=value`.

    Raises:
        ServiceError: the server does not answer.
        UsageError: it answers and refuses: address, user, password or database.
    """
    check_address(dsn)
    try:
        return psycopg2.connect(
            dsn,
            connect_timeout=CONNECT_TIMEOUT,
            application_name=application,
            options=options,
        )
    except (psycopg2.OperationalError, psycopg2.ProgrammingError) as error:
        raise _refusal(dsn, error) from None


def _refusal(dsn: str, error: psycopg2.Error) -> EcomError:
    if isinstance(error, psycopg2.ProgrammingError):
        # Its text quotes the URL, password and all.
        return UsageError(
            "Connecting to the source: ECOM_SOURCE_DSN cannot be read",
            "correct its options, what follows the `?`",
        )
    said = (str(error).strip().splitlines() or ["no reason given"])[0]
    # The driver puts "connection to server at ..., port ... failed: " before it.
    reason = " ".join(said.split("failed: ", 1)[-1].removeprefix("FATAL:").split())
    doing = f"Connecting to the source at {place(dsn)}: {reason}"
    if MISCONFIGURED.search(said):
        return UsageError(
            doing, "correct user, password, database or options in ECOM_SOURCE_DSN"
        )
    return ServiceError(
        doing, "start it (`ecom up` for the embedded one), or correct ECOM_SOURCE_DSN"
    )
