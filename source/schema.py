"""The shop's schema: tables, cursor indexes, triggers, and who may read."""

from __future__ import annotations

from dataclasses import dataclass

import psycopg2
from psycopg2 import sql

from common.errors import DataError, UsageError
from common.progress import say
from common.settings import Settings
from source.database import Cursor, transaction
from source.tables import TABLES, Table

PUBLIC = "public"
READER = "ecom_ingest"
# One lock for all that changes the shop as a whole: init, generate, change, load-csv.
SHOP_LOCK = 0x65636F6D

TOUCH = """
CREATE OR REPLACE FUNCTION {schema}.ecom_touch_updated_at() RETURNS trigger
LANGUAGE plpgsql AS $body$
BEGIN
    NEW.updated_at := now();
    RETURN NEW;
END
$body$
"""
TOUCH_TRIGGER = """
CREATE TRIGGER {name} BEFORE UPDATE ON {table}
FOR EACH ROW WHEN (OLD.* IS DISTINCT FROM NEW.*)
EXECUTE FUNCTION {public}.ecom_touch_updated_at()
"""


@dataclass(frozen=True)
class Initialised:
    """What `init` did: tables made, tables that were there, notes for the user."""

    created: list[str]
    present: list[str]
    notes: list[str]


def create_table(cursor: Cursor, schema: str, table: Table) -> None:
    """Make a table without key and index; only key and cursor refuse null.

    Nothing else is constrained on purpose: real sources have orphans, unknown
    statuses and missing times, and the pipeline must meet them.
    """
    columns = []
    for column in table.columns:
        parts = [sql.Identifier(column.name), sql.SQL(column.sql_type)]
        if column.name == table.cursor:
            parts.append(sql.SQL("NOT NULL DEFAULT now()"))
        columns.append(sql.SQL(" ").join(parts))
    cursor.execute(
        sql.SQL("CREATE TABLE {} ({})").format(
            sql.Identifier(schema, table.name), sql.SQL(", ").join(columns)
        )
    )


def finish_table(cursor: Cursor, schema: str, table: Table) -> None:
    """Give a table its key, the index on its cursor and its trigger."""
    add_key(cursor, schema, table)
    add_index(cursor, schema, table)
    add_trigger(cursor, schema, table)


def analyze(cursor: Cursor, schema: str, table: Table) -> None:
    """Give the planner, and ingest, which asks it, a fresh idea of the table."""
    target = sql.Identifier(schema, table.name)
    cursor.execute(sql.SQL("ANALYZE {}").format(target))


def mend_table(cursor: Cursor, table: Table) -> None:
    """Add what is missing of a table that was there before.

    Raises:
        DataError: its columns or its primary key are others.
    """
    check_columns(cursor, table)
    target = sql.Identifier(PUBLIC, table.name)
    key = primary_key(cursor, table)
    if not key:
        add_key(cursor, PUBLIC, table)
    elif key != set(table.key):
        raise DataError(
            f"Making the schema: table {table.name} has the primary key "
            f"{', '.join(sorted(key))} and not {', '.join(table.key)}",
            "rename or drop that table, or use another database",
        )
    cursor.execute(
        sql.SQL("ALTER TABLE {} ALTER {c} SET DEFAULT now(), ALTER {c} SET NOT NULL")
        .format(target, c=sql.Identifier(table.cursor))
    )  # fmt: skip
    add_index(cursor, PUBLIC, table)
    add_trigger(cursor, PUBLIC, table)


def require_keys(cursor: Cursor) -> None:
    """Refuse to fill tables whose keys PostgreSQL does not keep unique.

    Raises:
        UsageError: a table is not there, or its primary key is another.
    """
    present = existing_tables(cursor)
    for table in TABLES:
        if table.name not in present or primary_key(cursor, table) != set(table.key):
            raise UsageError(
                f"Looking at the shop: there is no table {table.name} with the primary "
                f"key {', '.join(table.key)}",
                "run `ecom source init` first",
            )


def primary_key(cursor: Cursor, table: Table) -> set[str]:
    """The columns of a table's primary key; empty where it has none."""
    cursor.execute(
        "SELECT attname FROM pg_index JOIN pg_attribute ON attrelid = indrelid "
        "AND attnum = ANY(indkey) WHERE indrelid = %s::regclass AND indisprimary",
        (f'"{PUBLIC}"."{table.name}"',),
    )
    return {row[0] for row in cursor.fetchall()}


def add_key(cursor: Cursor, schema: str, table: Table) -> None:
    """Make the table's key its primary key."""
    cursor.execute(
        sql.SQL("ALTER TABLE {} ADD PRIMARY KEY ({})").format(
            sql.Identifier(schema, table.name),
            sql.SQL(", ").join(map(sql.Identifier, table.key)),
        )
    )


def add_index(cursor: Cursor, schema: str, table: Table) -> None:
    """Index the cursor, which incremental reads go by."""
    cursor.execute(
        sql.SQL("CREATE INDEX IF NOT EXISTS {} ON {} ({})").format(
            sql.Identifier(f"{table.name}_{table.cursor}_idx"),
            sql.Identifier(schema, table.name),
            sql.Identifier(table.cursor),
        )
    )


def add_trigger(cursor: Cursor, schema: str, table: Table) -> None:
    """Stamp `updated_at` with the transaction's time at every real update."""
    if table.cursor != "updated_at":
        return
    name = sql.Identifier(f"{table.name}_touch")
    target = sql.Identifier(schema, table.name)
    cursor.execute(sql.SQL("DROP TRIGGER IF EXISTS {} ON {}").format(name, target))
    cursor.execute(
        sql.SQL(TOUCH_TRIGGER).format(
            name=name, table=target, public=sql.Identifier(PUBLIC)
        )
    )


def add_function(cursor: Cursor) -> None:
    """Make the function the triggers call."""
    cursor.execute(sql.SQL(TOUCH).format(schema=sql.Identifier(PUBLIC)))


def existing_tables(cursor: Cursor) -> set[str]:
    """Which of the shop's tables there are in the schema `public`."""
    cursor.execute(
        "SELECT table_name FROM information_schema.tables "
        "WHERE table_schema = %s AND table_name = ANY(%s)",
        (PUBLIC, [table.name for table in TABLES]),
    )
    return {row[0] for row in cursor.fetchall()}


def is_empty(cursor: Cursor) -> bool:
    """Whether no table of the shop holds a row."""
    for name in existing_tables(cursor):
        cursor.execute(
            sql.SQL("SELECT EXISTS (SELECT 1 FROM {})").format(
                sql.Identifier(PUBLIC, name)
            )
        )
        row = cursor.fetchone()
        if row is not None and row[0]:
            return False
    return True


def lock_shop(cursor: Cursor) -> None:
    """Hold the shop's lock until the transaction ends.

    Raises:
        DataError: another `ecom source` command holds it.
    """
    cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", (SHOP_LOCK,))
    row = cursor.fetchone()
    if row is None or not row[0]:
        raise DataError(
            "Changing the shop: another `ecom source` command is at work on it",
            "wait for it to end, then run again",
        )


def check_columns(cursor: Cursor, table: Table) -> None:
    """Refuse a table that has the right name and other columns.

    Raises:
        DataError: naming the columns that are missing or of another type.
    """
    cursor.execute(
        "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute "
        "WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped",
        (f'"{PUBLIC}"."{table.name}"',),
    )
    found = dict(cursor.fetchall())
    spelt = {"timestamptz": "timestamp with time zone"}
    wrong = [
        f"{column.name} {column.sql_type}"
        for column in table.columns
        if found.get(column.name) != spelt.get(column.sql_type, column.sql_type)
    ]
    if wrong:
        raise DataError(
            f"Making the schema: table {table.name} exists without {', '.join(wrong)}",
            "rename or drop that table, or use another database",
        )


def init(settings: Settings, reader: str | None = None) -> Initialised:
    """Make what is missing of the shop's schema; what is there stays.

    Args:
        settings: where the source is.
        reader: a login role to make for ingest where it is missing (it reads and
            does nothing else); None grants to `ecom_ingest` where that exists.
    """
    with transaction(settings, "Making the source schema") as connection:
        cursor = connection.cursor()
        lock_shop(cursor)
        present = existing_tables(cursor)
        add_function(cursor)
        for table in TABLES:
            if table.name in present:
                mend_table(cursor, table)
            else:
                create_table(cursor, PUBLIC, table)
                finish_table(cursor, PUBLIC, table)
        notes = make_reader(cursor, reader) if reader else []
        notes += grant_reader(cursor, reader or READER)
    created = [table.name for table in TABLES if table.name not in present]
    return Initialised(created, sorted(present), notes)


def make_reader(cursor: Cursor, role: str) -> list[str]:
    """Make a role for ingest, without password, and let it see other sessions.

    Returns:
        What could not be done, with the statement an administrator would run.
    """
    notes = []
    name = sql.Identifier(role)
    spelt = name.as_string(cursor)
    cursor.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (role,))
    if cursor.fetchone() is None:
        made = _attempt(cursor, sql.SQL("CREATE ROLE {} LOGIN").format(name))
        notes.append(
            f"Role {role} made, without a password: set one with `\\password {spelt}` "
            "in psql, then give ingest its own ECOM_SOURCE_DSN"
            if made
            else f"No right to make roles: an administrator runs CREATE ROLE {spelt} "
            "LOGIN, then run this again"
        )
    cursor.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (role,))
    if cursor.fetchone() is not None and not _attempt(
        cursor, sql.SQL("GRANT pg_read_all_stats TO {}").format(name)
    ):
        notes.append(
            "No right to grant pg_read_all_stats, without which ingest re-reads a "
            "lookback: an administrator runs "
            f"GRANT pg_read_all_stats TO {spelt}"
        )
    return notes


def grant_reader(cursor: Cursor, role: str) -> list[str]:
    """Let a role read the shop and nothing else; notes where it cannot be.

    Returns:
        Sentences for the user; empty when all was granted.
    """
    cursor.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (role,))
    if cursor.fetchone() is None:
        return []
    names = {"schema": sql.Identifier(PUBLIC), "role": sql.Identifier(role)}
    tables = sql.SQL(", ").join(sql.Identifier(PUBLIC, t.name) for t in TABLES)
    cursor.execute(
        sql.SQL("GRANT SELECT ON {tables} TO {role}").format(tables=tables, **names)
    )
    notes = []
    for statement, what in (
        ("GRANT USAGE ON SCHEMA {schema} TO {role}", "use the schema"),
        (
            "ALTER DEFAULT PRIVILEGES IN SCHEMA {schema} "
            "GRANT SELECT ON TABLES TO {role}",
            "read tables made later",
        ),
    ):
        if not _attempt(cursor, sql.SQL(statement).format(**names)):
            notes.append(f"No right to let {role} {what}: ask the schema's owner")
    return notes


def _attempt(cursor: Cursor, statement: sql.Composed) -> bool:
    """Run a statement that may be forbidden; whether it was allowed."""
    cursor.execute("SAVEPOINT attempt")
    try:
        cursor.execute(statement)
    except psycopg2.errors.InsufficientPrivilege:
        cursor.execute("ROLLBACK TO SAVEPOINT attempt")
        return False
    cursor.execute("RELEASE SAVEPOINT attempt")
    return True


def report(done: Initialised) -> None:
    """Say what `init` did."""
    if done.created:
        say(f"Made {', '.join(done.created)} in schema {PUBLIC}")
    if done.present:
        say(f"Already there: {', '.join(done.present)}")
    for note in done.notes:
        say(note)
