"""A database and a staging schema of its own for each test, on the shared stack."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from psycopg2 import sql

from common.settings import Settings
from ingest.engine import open_engine
from stack.endpoints import connect_url, source_dsn
from stack.home import Home
from stack.postgres import Postgres
from tests.conftest import ecom

_NUMBERS = itertools.count(1)


@dataclass
class Shop:
    """A source database, a staging schema and a manifest between them."""

    settings: Settings
    server: Postgres
    database: str
    schema: str
    folder: Path

    def connect(self) -> Any:
        """A superuser connection to the database."""
        return self.server.connect(self.database)

    def execute(self, *statements: str) -> None:
        """Run statements in one transaction."""
        connection = self.connect()
        with connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
        connection.close()

    def source(self, query: str) -> list[tuple[Any, ...]]:
        """Rows of the source."""
        connection = self.connect()
        with connection, connection.cursor() as cursor:
            cursor.execute(query)
            rows = cursor.fetchall()
        connection.close()
        return list(rows)

    def manifest(self, tables: str) -> Path:
        """Write a manifest; `tables` is the list's YAML."""
        path = self.folder / "tables.yml"
        path.write_text(
            f"version: 1\ntarget: {{schema: {self.schema}}}\ntables:\n{tables}",
            encoding="utf-8",
        )
        return path

    def ingest(self, manifest: Path, *arguments: str, code: int = 0) -> Any:
        """`ecom ingest --json` as the role ingest; parsed, or its text on failure."""
        said = ecom(
            self.settings,
            "ingest",
            "--manifest",
            str(manifest),
            "--json",
            *arguments,
            code=code,
        )
        return {row["table"]: row for row in json.loads(said)} if code == 0 else said

    def reconcile(self, manifest: Path, code: int = 0) -> str:
        """`ecom reconcile`; its text."""
        return ecom(self.settings, "reconcile", "--manifest", str(manifest), code=code)

    def staged(self, query: str) -> list[tuple[Any, ...]]:
        """Rows of staging; `{s}` in the query is the schema."""
        with open_engine(connect_url(self.settings), "test") as session:
            rows = session.sql(query.replace("{s}", self.schema)).collect()
        return [tuple(row) for row in rows]


@pytest.fixture
def shop(running: Settings, tmp_path: Path) -> Iterator[Shop]:
    """An empty source database that the role ingest may read."""
    number = next(_NUMBERS)
    server = Postgres(Home(running.home))
    name = f"ingest_{number}"
    with _superuser(server) as cursor:
        cursor.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    dsn = source_dsn(running, "ingest").rpartition("/")[0] + f"/{name}"
    found = Shop(
        replace(running, source_dsn=dsn), server, name, f"staging_{number}", tmp_path
    )
    found.execute(
        "GRANT USAGE ON SCHEMA public TO ecom_ingest",
        "ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO ecom_ingest",
    )
    yield found
    with _superuser(server) as cursor:
        cursor.execute(
            sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name))
        )


@contextmanager
def _superuser(server: Postgres) -> Iterator[Any]:
    connection = psycopg2.connect(
        host="127.0.0.1", port=server.port, user="postgres", dbname="postgres",
        password=server.home.secret("postgres_postgres"),
    )  # fmt: skip
    connection.autocommit = True
    yield connection.cursor()
    connection.close()
