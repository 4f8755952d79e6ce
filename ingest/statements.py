"""SQL text for both sides, built without touching either."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone

from ingest.types import Mapping, quote

PAGE = "_ecom_page"
"""Where a row lies in its heap; reads are divided by it, staging never has it."""
DICTIONARY = "write.parquet.dict-encoding-enabled"
CDC_COLUMNS = (
    ("_cdc_batch_id", "string"),
    ("_cdc_loaded_at", "timestamp"),
    ("_cdc_deleted_at", "timestamp"),
)


def literal(text: str) -> str:
    """A PostgreSQL string literal."""
    return "'" + text.replace("'", "''") + "'"


def tick(identifier: str) -> str:
    """A Spark identifier in backticks."""
    return "`" + identifier.replace("`", "``") + "`"


def spark_literal(text: str) -> str:
    """A Spark string literal."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def spark_timestamp(moment: datetime) -> str:
    """A Spark timestamp literal, in UTC to the microsecond."""
    return f"timestamp '{moment.astimezone(timezone.utc):%Y-%m-%d %H:%M:%S.%f} UTC'"


def window(cursor: str | None, lower: datetime | None) -> str:
    """The source rows a read takes; null cursors are always taken."""
    if cursor is None or lower is None:
        return "true"
    name = quote(cursor)
    return f"({name} >= {literal(lower.isoformat())} OR {name} IS NULL)"


def unfit(mappings: Sequence[Mapping]) -> str:
    """Condition for a row that cannot be represented."""
    conditions = [m.unfit for m in mappings if m.unfit]
    return " OR ".join(conditions) if conditions else "false"


def select_rows(
    schema: str,
    table: str,
    mappings: Sequence[Mapping],
    condition: str,
    by_page: bool = False,
) -> str:
    """The representable rows, each column of exactly its staging type.

    `by_page` adds the column `PAGE`, for conditions around the query.
    """
    columns = ", ".join(f"{m.expression} AS {quote(m.column)}" for m in mappings)
    columns += f", ctid AS {PAGE}" if by_page else ""
    return (
        f"SELECT {columns} FROM {quote(schema)}.{quote(table)} "
        f"WHERE {condition} AND NOT ({unfit(mappings)})"
    )


def record_key(key: Sequence[str]) -> str:
    """PostgreSQL expression of a row's key values joined by a vertical bar."""
    return "concat_ws('|', " + ", ".join(f"{quote(c)}::text" for c in key) + ")"


def spark_record_key(key: Sequence[str]) -> str:
    """The same in Spark."""
    return (
        "concat_ws('|', " + ", ".join(f"cast({tick(c)} as string)" for c in key) + ")"
    )


def select_rejects(
    schema: str,
    table: str,
    key: Sequence[str],
    mappings: Sequence[Mapping],
    condition: str,
) -> str | None:
    """A row a reject: key, first unfit column, its text, the reason; None if none can be."""
    checked = [m for m in mappings if m.unfit]
    if not checked:
        return None

    def first(value: str) -> str:
        return (
            "CASE "
            + " ".join(
                f"WHEN {m.unfit} THEN {value.format(m=m, n=quote(m.column), c=literal(m.column), r=literal(m.reason))}"
                for m in checked
            )
            + " END"
        )

    return (
        f'SELECT {record_key(key)} AS "key", {first("{c}")} AS column_name, '
        f"{first('{n}::text')} AS raw_value, {first('{r}')} AS reason "
        f"FROM {quote(schema)}.{quote(table)} WHERE {condition} AND ({unfit(mappings)})"
    )


def select_keys(
    schema: str, table: str, key: Sequence[str], mappings: Sequence[Mapping]
) -> str:
    """All keys of the source, as their staging types."""
    by_name = {m.column: m for m in mappings}
    columns = ", ".join(f"{by_name[c].expression} AS {quote(c)}" for c in key)
    return f"SELECT {columns} FROM {quote(schema)}.{quote(table)} WHERE NOT ({unfit(mappings)})"


def create_table(
    relation: str,
    columns: Sequence[tuple[str, str]],
    partition_by: str | None,
    comment: str,
    plain: Sequence[str] = (),
) -> str:
    """DDL of a staging table; `plain` columns are written without a dictionary."""
    body = ", ".join(f"{tick(name)} {kind}" for name, kind in columns)
    partition = f"PARTITIONED BY ({partition_by})" if partition_by else ""
    encodings = "".join(
        f", {spark_literal(f'{DICTIONARY}.column.{name}')}='false'" for name in plain
    )
    return (
        f"CREATE TABLE IF NOT EXISTS {relation} ({body}) USING iceberg {partition} "
        f"COMMENT {spark_literal(comment)} TBLPROPERTIES ("
        "'format-version'='2', 'write.merge.mode'='merge-on-read', "
        "'write.update.mode'='merge-on-read', 'write.delete.mode'='merge-on-read', "
        "'write.metadata.delete-after-commit.enabled'='true', "
        "'write.metadata.previous-versions-max'='20', "
        # Else a file stays open for each partition a task meets; the engine has
        # ended at ten million rows over 654 days.
        "'write.spark.fanout.enabled'='false', "
        f"'write.parquet.compression-codec'='snappy'{encodings})"
    )


def changed(columns: Sequence[str], left: str = "s", right: str = "t") -> str:
    """Condition: any column differs, nulls compared as values."""
    same = " AND ".join(f"{left}.{tick(c)} <=> {right}.{tick(c)}" for c in columns)
    return f"NOT ({same})"


def on_key(key: Sequence[str], left: str = "s", right: str = "t") -> str:
    """Join condition over the key columns."""
    return " AND ".join(f"{left}.{tick(c)} = {right}.{tick(c)}" for c in key)


HASH_MODULUS = 2147483647
INTEGERS = ("smallint", "int", "bigint")


def key_hash(spark_types: Sequence[str], columns: Sequence[str], side: str) -> str:
    """A hash of a key in [-2^31, 2^31], the same number on both sides.

    Integers are combined by arithmetic, which costs little; other keys go by the
    first 28 bits of the MD5 of their text.

    Args:
        spark_types: the key columns' types in staging.
        columns: the columns, quoted for the side.
        side: `postgres` or `spark`.
    """
    if all(kind in INTEGERS for kind in spark_types):
        text = "cast(0 AS bigint)"
        for column in columns:
            value = f"cast({column} AS bigint) % {HASH_MODULUS}"
            text = f"(({text} * 1000003 + {value}) % {HASH_MODULUS})"
        return text
    kind = "text" if side == "postgres" else "string"
    joined = (
        "concat_ws('|', " + ", ".join(f"cast({c} AS {kind})" for c in columns) + ")"
    )
    if side == "postgres":
        return f"('x0' || substr(md5({joined}), 1, 7))::bit(32)::int::bigint"
    return f"cast(conv(substr(md5({joined}), 1, 7), 16, 10) AS bigint)"
