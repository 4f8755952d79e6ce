"""What PostgreSQL's catalogue says of a table, and whether the manifest fits it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg2

from common.errors import UsageError
from ingest.manifest import TableSpec
from ingest.statements import CDC_COLUMNS
from ingest.types import CURSORS, Mapping, SourceColumn, map_column, quote

LARGE_TABLE_ROWS = 1_000_000
CLOCK_TYPES = ("timestamp", "timestamp_ntz")

# Before version 14, PostgreSQL reads the whole heap for a range of its pages.
TABLE_SQL = """
    SELECT c.oid, c.reltuples::bigint,
        pg_relation_size(c.oid) / current_setting('block_size')::bigint,
        pg_table_size(c.oid),
        coalesce(c.relkind IN ('r', 'm') AND m.amname = 'heap', false)
            AND current_setting('server_version_num')::int >= 140000,
        c.relkind = 'r' AND EXISTS (SELECT FROM pg_inherits WHERE inhparent = c.oid),
        row_security_active(c.oid), has_schema_privilege(n.oid, 'USAGE'),
        (SELECT array_agg(a.attname::text ORDER BY a.attnum) FROM pg_attribute a
          WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
            AND NOT has_column_privilege(c.oid, a.attnum, 'SELECT'))
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN pg_am m ON m.oid = c.relam
    WHERE n.nspname = %s AND c.relname = %s AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
"""
COLUMNS_SQL = """
    WITH RECURSIVE declared AS (
        SELECT a.attnum, a.attname, a.attnotnull, a.atttypid AS type, a.atttypmod AS typmod,
            format_type(a.atttypid, a.atttypmod) AS text
        FROM pg_attribute a
        WHERE a.attrelid = %s AND a.attnum > 0 AND NOT a.attisdropped
      UNION ALL
        SELECT d.attnum, d.attname, d.attnotnull OR t.typnotnull, t.typbasetype,
            CASE WHEN t.typtypmod >= 0 THEN t.typtypmod ELSE d.typmod END, d.text
        FROM declared d JOIN pg_type t ON t.oid = d.type WHERE t.typtype = 'd'
    )
    SELECT d.attname, CASE WHEN n.nspname = 'pg_catalog' THEN '' ELSE n.nspname || '.' END
            || t.typname,
        CASE WHEN t.typname = 'numeric' AND d.typmod >= 4
             THEN ((d.typmod - 4) >> 16) & 65535 END,
        CASE WHEN t.typname = 'numeric' AND d.typmod >= 4
             THEN (((d.typmod - 4) & 2047) # 1024) - 1024 END,
        NOT d.attnotnull, d.text, d.attnum
    FROM declared d JOIN pg_type t ON t.oid = d.type JOIN pg_namespace n ON n.oid = t.typnamespace
    WHERE t.typtype <> 'd' ORDER BY d.attnum
"""
UNIQUE_SQL = """
    SELECT array_agg(a.attname::text)
    FROM pg_index i
    CROSS JOIN LATERAL unnest(i.indkey) WITH ORDINALITY k(attnum, place)
    JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
    WHERE i.indrelid = %s AND i.indisunique AND i.indisvalid AND k.place <= i.indnkeyatts
        AND i.indpred IS NULL AND i.indexprs IS NULL
    GROUP BY i.indexrelid
"""
LEADING_SQL = """
    SELECT a.attname FROM pg_index i
    JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
    WHERE i.indrelid = %s AND i.indisvalid AND i.indpred IS NULL
"""
STORAGE_SQL = """
    WITH RECURSIVE tree AS (
        SELECT %s::oid AS oid
      UNION SELECT i.inhrelid FROM tree JOIN pg_inherits i ON i.inhparent = tree.oid
    )
    SELECT c.oid::text, pg_relation_filenode(c.oid)::bigint
    FROM tree JOIN pg_class c USING (oid) WHERE pg_relation_filenode(c.oid) IS NOT NULL
"""


@dataclass(frozen=True)
class Heap:
    """How much of a table lies on the source's disk, and how it can be read.

    Attributes:
        pages: pages of its heap.
        table_bytes: bytes with what is stored out of line.
        pages_scannable: whether a range of its pages can be read alone.
    """

    pages: int
    table_bytes: int
    pages_scannable: bool


@dataclass(frozen=True)
class SourceTable:
    """A table as the source has it.

    Attributes:
        columns: its columns in order.
        mappings: how each of them travels.
        estimated_rows: PostgreSQL's own estimate.
        cursor_type: `typname` of the cursor, or None without one.
        heap: how it can be divided for parallel reads.
        storage: oid -> file node of the table and its partitions.
        notes: what the user should know before trusting the copy.
    """

    columns: tuple[SourceColumn, ...]
    mappings: tuple[Mapping, ...]
    estimated_rows: int
    cursor_type: str | None
    heap: Heap
    storage: dict[str, int]
    notes: tuple[str, ...] = ()

    @property
    def shape(self) -> str:
        """Digest of the columns, and of their types in staging: any change of them
        but a new comment changes it."""
        text = repr(
            [(c.number, c.name, c.declared) for c in self.columns]
            + [m.spark_type for m in self.mappings]
        )
        return hashlib.sha256(text.encode()).hexdigest()[:16]


Rows = Callable[..., list[tuple[Any, ...]]]


def describe(rows: Rows, schema: str, spec: TableSpec) -> SourceTable:
    """A table's columns and size, checked against its manifest entry.

    Args:
        rows: runs a statement with its values and gives its rows.
        schema: the source schema.
        spec: the manifest's entry.

    Raises:
        UsageError: the table, a column, a right, a unique key or an index is
            missing; the message names the manifest's line.
    """
    try:
        found = rows(TABLE_SQL, schema, spec.name)
    except psycopg2.errors.InsufficientPrivilege as error:
        raise spec.refuse("name", str(error).splitlines()[0], "grant it") from None
    if not found:
        raise spec.refuse(
            "name", f"the source has no table {schema}.{spec.name}",
            "correct the name or `source: {schema: ...}`",
        )  # fmt: skip
    oid, estimate, pages, size, scannable, *rest = found[0]
    inherited, secured, usable, denied = rest
    if denied or not usable:
        raise spec.refuse(
            "name", f"this user may not read {schema}.{spec.name}"
            + (f" ({', '.join(denied)})" if denied else ""),
            f"GRANT USAGE ON SCHEMA {schema} and GRANT SELECT ON {schema}.{spec.name} to it",
        )  # fmt: skip
    columns = tuple(SourceColumn(*row) for row in rows(COLUMNS_SQL, oid))
    _check_columns(spec, columns)
    unique = [] if inherited else [set(row[0]) for row in rows(UNIQUE_SQL, oid)]
    if not any(index <= set(spec.key) for index in unique):
        why = " (it has child tables, which no index of it covers)" if inherited else ""
        raise spec.refuse(
            "key", f"the source does not keep key ({', '.join(spec.key)}) unique{why}",
            "name the columns of a primary key or unique index",
        )  # fmt: skip
    leading = [row[0] for row in rows(LEADING_SQL, oid)]
    unindexed = spec.cursor is not None and spec.cursor not in leading
    if estimate < 0:
        estimate = _counted(rows, schema, spec) if unindexed else 0
    if unindexed and estimate >= LARGE_TABLE_ROWS:
        raise spec.refuse(
            "cursor", f"{estimate:,} rows and no index on the cursor {spec.cursor}",
            f"create one: CREATE INDEX CONCURRENTLY ON {spec.name} ({spec.cursor})",
        )  # fmt: skip
    mappings = _map(spec, columns)
    _check_partition(spec, mappings)
    notes = ["row-level security hides rows from this user"] if secured else []
    return SourceTable(
        columns, mappings, estimate, _cursor_type(spec, columns),
        # Child tables have heaps of their own, which no range of this one's covers.
        Heap(int(pages), int(size), scannable and not inherited),
        dict(rows(STORAGE_SQL, oid)), tuple(notes),
    )  # fmt: skip


def _counted(rows: Rows, schema: str, spec: TableSpec) -> int:
    """Rows of a table that PostgreSQL has never analysed, as far as it takes to call
    it large."""
    some = f"SELECT FROM {quote(schema)}.{quote(spec.name)} LIMIT {LARGE_TABLE_ROWS}"
    [(found,)] = rows(f"SELECT count(*) FROM ({some}) AS first_rows".replace("%", "%%"))
    return int(found)


def _check_columns(spec: TableSpec, columns: Sequence[SourceColumn]) -> None:
    known = [column.name for column in columns]
    wanted = [("key", name) for name in spec.key]
    wanted += [(f"columns.{name}", name) for name in spec.columns]
    wanted += [("cursor", spec.cursor)] if spec.cursor else []
    wanted += [("split_by", spec.split_by)] if spec.split_by else []
    wanted += [("partition_by", spec.partition[1])] if spec.partition else []
    for place, name in wanted:
        if name not in known:
            raise spec.refuse(
                place, f"the source has no column {name!r}",
                f"its columns are {', '.join(known)}",
            )  # fmt: skip
    reserved = {name for name, _ in CDC_COLUMNS}
    seen: dict[str, str] = {}
    for name in known:
        if name.lower() in reserved:
            raise spec.refuse(
                "name", f"column {name} has a name that ingest adds itself",
                "rename it in the source",
            )  # fmt: skip
        if name.lower() in seen:
            raise spec.refuse(
                "name", f"columns {seen[name.lower()]} and {name} differ in case only, "
                "which Spark cannot tell apart",
                "rename one in the source",
            )  # fmt: skip
        seen[name.lower()] = name


def _map(spec: TableSpec, columns: Sequence[SourceColumn]) -> tuple[Mapping, ...]:
    found = []
    for column in columns:
        override = spec.columns.get(column.name)
        try:
            found.append(map_column(column, override, column.name in spec.key))
        except UsageError as error:
            place = f"columns.{column.name}"
            raise spec.refuse(place, str(error.args[0]), error.fix) from None
    return tuple(found)


def _cursor_type(spec: TableSpec, columns: Sequence[SourceColumn]) -> str | None:
    for column in columns:
        if column.name == spec.cursor:
            if column.type_name not in CURSORS:
                raise spec.refuse(
                    "cursor", f"cursor {spec.cursor} is {column.declared}, which says "
                    "nothing of when a row changed",
                    f"name a column of type {', '.join(CURSORS)}, or use mode full",
                )  # fmt: skip
            return column.type_name
    return None


def _check_partition(spec: TableSpec, mappings: Sequence[Mapping]) -> None:
    if spec.partition is None:
        return
    transform, name = spec.partition
    kind = next(m.spark_type for m in mappings if m.column == name)
    allowed = (
        CLOCK_TYPES if transform == "hours"
        else (*CLOCK_TYPES, "date") if transform
        else None
    )  # fmt: skip
    if (allowed and kind not in allowed) or kind in ("float", "double", "binary"):
        raise spec.refuse(
            "partition_by", f"{spec.partition_by} cannot divide a column of type {kind}",
            "use years(), months() or days() of a date or time, hours() of a time, or "
            "a column of another type by itself",
        )  # fmt: skip
