"""A real PostgreSQL of its own for the source room's tests, a database for each."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from psycopg2 import sql

from common.settings import Settings
from source import schema
from source.tables import TABLES
from stack.endpoints import source_dsn
from stack.home import Home
from stack.postgres import Postgres

_NUMBERS = itertools.count(1)
Rows = list[tuple[Any, ...]]
Query = Callable[..., Rows]


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """PostgreSQL in a home whose path has spaces; stopped at the end."""
    home = Home(tmp_path_factory.mktemp("source home"))
    home.claim_ports(["postgres"])
    postgres = Postgres(home)
    postgres.start()
    yield postgres
    postgres.stop()


@pytest.fixture
def settings(server: Postgres) -> Settings:
    """Settings of an empty database of this test alone, owned by the role shop."""
    name = f"test_{next(_NUMBERS)}"
    connection = server.connect()
    connection.autocommit = True
    connection.cursor().execute(
        sql.SQL("CREATE DATABASE {} OWNER shop").format(sql.Identifier(name))
    )
    connection.close()
    embedded = Settings(home=server.home.root, source_dsn=None, target="local")
    dsn = source_dsn(embedded, "owner").rpartition("/")[0]
    return replace(embedded, source_dsn=f"{dsn}/{name}")


@pytest.fixture
def shop(settings: Settings) -> Settings:
    """The same with the shop's empty tables."""
    schema.init(settings)
    return settings


@pytest.fixture
def query(settings: Settings) -> Query:
    """Run a statement as the owner, committed; its rows."""

    def run(statement: str, *values: object) -> Rows:
        connection = psycopg2.connect(settings.source_dsn, options="-c timezone=UTC")
        try:
            with connection, connection.cursor() as cursor:
                cursor.execute(statement, values or None)
                return cursor.fetchall() if cursor.description else []
        finally:
            connection.close()

    return run


@pytest.fixture
def contents(query: Query) -> Callable[[], dict[str, str]]:
    """A hash of every row of every table, in the order of the keys."""

    def read() -> dict[str, str]:
        return {
            table.name: query(
                f"SELECT md5(coalesce(string_agg(t::text, chr(10) ORDER BY "
                f"{', '.join(table.key)}), '')) FROM {table.name} t"
            )[0][0]
            for table in TABLES
        }

    return read


@pytest.fixture
def counts(query: Query) -> Callable[[], dict[str, int]]:
    """Rows of each table."""

    def read() -> dict[str, int]:
        return {t.name: query(f"SELECT count(*) FROM {t.name}")[0][0] for t in TABLES}

    return read


@pytest.fixture
def feed(tmp_path: Path) -> Callable[..., Path]:
    """Write a folder of five CSV files; arguments replace whole files."""

    def write(**files: str | bytes) -> Path:
        folder = tmp_path / "the feed"
        folder.mkdir(exist_ok=True)
        for name, text in {**GOOD, **files}.items():
            data = text.encode() if isinstance(text, str) else text
            (folder / f"{name}.csv").write_bytes(data)
        return folder

    return write


GOOD = {
    "customers": "customer_id,full_name,email,birth_date,region,loyalty_tier,signup_at,"
    "updated_at\n"
    "1,Zoë Müller,zoe@example.com,1990-02-28,Nordics,gold,2023-01-05T10:00:00Z,"
    "2023-01-05 10:00:00.123456+00\n"
    '2,"O\'Brien, ""Bob""",bob@example.com,,Iberia,bronze,2023-02-01T00:00:00+02:00,'
    "2023-02-01T00:00:00Z\n",
    "products": "product_id,product_name,category,price,updated_at\n"
    "10,Crème brûlée,Grocery,12.50,2023-01-01T00:00:00Z\n"
    '11,"Two\nlines",Books,0,2023-01-01T00:00:00Z\n',
    "orders": "order_id,customer_id,ordered_at,status,updated_at\n"
    "100,1,2023-03-01T12:00:00Z,paid,2023-03-01T12:00:00Z\n",
    "order_items": "order_id,line_number,product_id,quantity,unit_price,updated_at\n"
    "100,1,10,2,12.50,2023-03-01T12:00:00Z\n"
    "100,2,11,1,0.00,2023-03-01T12:00:00Z\n",
    "interactions": "interaction_id,customer_id,product_id,interaction_type,occurred_at,"
    "session_id,device,recorded_at\n"
    "1000,1,10,view,2023-03-01T11:00:00Z,123e4567-e89b-12d3-a456-426614174000,mobile,"
    "2023-03-01T11:00:01Z\n"
    "1001,2,,search,2023-03-01T11:00:00Z,123E4567-E89B-12D3-A456-426614174001,desktop,"
    "2023-03-02T11:00:01Z\n",
}
