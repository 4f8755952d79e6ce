"""SQL text for both sides, built without touching either."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone

from ingest.bounds import ZONE_MARGIN, Bound
from ingest.types import Mapping, quote

INTEGERS = ("int", "bigint")
PAGE = "_ecom_page"
"""Where a row lies in its heap; reads are divided by it, staging never has it."""
DICTIONARY = "write.parquet.dict-encoding-enabled"
NTZ = "timestamp_ntz"
TIMES = ("timestamp", NTZ)
OLD = "1901-01-01"
"""Before this, driver and engine count days and zones by calendars that differ."""
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


def bound_literal(kind: str, lower: Bound) -> str:
    """A bound as a literal of the cursor's own type.

    A cursor without a time zone may hold any zone's local time.

    Args:
        kind: `typname` of the cursor.
        lower: a moment in UTC, or a number.
    """
    if not isinstance(lower, datetime):
        return str(int(lower))
    if kind == "timestamptz":
        return f"{literal(lower.isoformat())}::timestamptz"
    local = (lower - ZONE_MARGIN).astimezone(timezone.utc).replace(tzinfo=None)
    return f"{literal(local.isoformat(' '))}::timestamp::{kind}"


def window(
    cursor: str | None,
    kind: str | None,
    lower: Bound | None,
    unseen: Sequence[str] = (),
) -> str:
    """The source rows a read takes; null cursors are always taken.

    Args:
        cursor: the cursor column.
        kind: its `typname`.
        lower: where the read begins; None takes all rows.
        unseen: oids of partitions never read, whose rows are all taken.
    """
    if cursor is None or kind is None or lower is None:
        return "true"
    name = quote(cursor)
    parts = [f"{name} >= {bound_literal(kind, lower)}", f"{name} IS NULL"]
    if unseen:
        parts.append(f"tableoid IN ({', '.join(str(int(oid)) for oid in unseen)})")
    return f"({' OR '.join(parts)})"


def settled(cursor: str | None, kind: str | None, lower: Bound | None) -> str:
    """Condition: a source row that the last read must have brought."""
    if cursor is None or kind is None or lower is None:
        return "true"
    return f"coalesce({quote(cursor)} < {bound_literal(kind, lower)}, true)"


def to_wire(mapping: Mapping, exact: bool = False) -> str:
    """How a value leaves PostgreSQL: JDBC shifts dates and local times by calendar
    and by the engine's own time zone, but neither numbers nor late moments.

    Args:
        mapping: the column.
        exact: whether moments before `OLD` may be among the values: they travel as
            microseconds, which costs the server four times as much.
    """
    value = mapping.expression
    if mapping.spark_type == "date":
        return f"({value} - DATE '1970-01-01')"
    if mapping.spark_type not in TIMES:
        return value
    moment = f"({value} AT TIME ZONE 'UTC')" if mapping.spark_type == NTZ else value
    if not exact:
        return moment
    # In whole seconds and the rest: exact also where `extract` is a double.
    return (
        f"(extract(epoch FROM date_trunc('second', {moment}))::bigint * 1000000 "
        f"+ extract(microseconds FROM {moment})::bigint % 1000000)"
    )


def from_wire(column: str, spark_type: str, exact: bool = False) -> str:
    """The Spark expression that takes what `to_wire` sent."""
    name = tick(column)
    if spark_type == "date":
        return f"date_from_unix_date(CAST({name} AS int))"
    if exact and spark_type in TIMES:
        return f"CAST(timestamp_micros({name}) AS {spark_type})"
    return f"CAST({name} AS {spark_type})"


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
    exact: bool = False,
) -> str:
    """The representable rows, each column of exactly its staging type.

    `by_page` adds the column `PAGE`, for conditions around the query; `exact` is as
    for `to_wire`.
    """
    columns = ", ".join(f"{to_wire(m, exact)} AS {quote(m.column)}" for m in mappings)
    columns += f", ctid AS {PAGE}" if by_page else ""
    return (
        f"SELECT {columns} FROM {quote(schema)}.{quote(table)} "
        f"WHERE {condition} AND NOT ({unfit(mappings)})"
    )


def count_window(
    schema: str,
    table: str,
    mappings: Sequence[Mapping],
    condition: str,
    whole: str | None,
) -> str:
    """Rows that can and that cannot be represented, whether the former have moments
    before `OLD`, and the extent of a column.

    Args:
        schema: the source schema.
        table: its table.
        mappings: of all columns.
        condition: the rows that count.
        whole: an integer column whose least and greatest value in the representable
            rows is wanted, or None.
    """
    fit = f"NOT ({unfit(mappings)})"
    extent = (
        f"min({quote(whole)}) FILTER (WHERE {fit}), max({quote(whole)}) FILTER (WHERE {fit})"
        if whole
        else "NULL, NULL"
    )
    old = " OR ".join(
        f"{m.expression} < '{OLD}'" for m in mappings if m.spark_type in TIMES
    )
    aged = f"coalesce(bool_or({old}) FILTER (WHERE {fit}), false)" if old else "false"
    return (
        f"SELECT count(*) FILTER (WHERE {fit}), count(*) FILTER (WHERE NOT ({fit})), "
        f"{aged}, {extent} FROM {quote(schema)}.{quote(table)} WHERE {condition}"
    )


def record_key(key: Sequence[str]) -> str:
    """PostgreSQL expression of a row's key values joined by a vertical bar."""
    return "concat_ws('|', " + ", ".join(f"{quote(c)}::text" for c in key) + ")"


def select_rejects(
    schema: str,
    table: str,
    key: Sequence[str],
    mappings: Sequence[Mapping],
    condition: str,
) -> str | None:
    """A row a reject: key, first unfit column, its text, the reason; None if none can be."""
    checked = [
        (condition, quote(m.column), literal(m.column), literal(reason))
        for m in mappings
        for condition, reason in m.faults
    ]
    if not checked:
        return None

    def first(value: str) -> str:
        cases = (
            f"WHEN {condition} THEN {value.format(name=name, text=text, reason=reason)}"
            for condition, name, text, reason in checked
        )
        return f"CASE {' '.join(cases)} END"

    return (
        f'SELECT {record_key(key)} AS "key", {first("{text}")} AS column_name, '
        f"{first('{name}::text')} AS raw_value, {first('{reason}')} AS reason "
        f"FROM {quote(schema)}.{quote(table)} WHERE {condition} AND ({unfit(mappings)})"
    )


def select_rejected_keys(
    schema: str,
    table: str,
    key: Sequence[str],
    mappings: Sequence[Mapping],
    condition: str,
) -> str:
    """Exact keys, as their staging types, of rows that cannot be represented."""
    keys = [m for m in mappings if m.column in key]
    columns = ", ".join(f"{to_wire(m, True)} AS {quote(m.column)}" for m in keys)
    return (
        f"SELECT {columns} FROM {quote(schema)}.{quote(table)} "
        f"WHERE {condition} AND ({unfit(mappings)}) AND NOT ({unfit(keys)})"
    )


def create_table(
    relation: str,
    columns: Sequence[tuple[str, str]],
    partition_by: tuple[str, str] | None,
    comment: str,
    plain: Sequence[str] = (),
) -> str:
    """DDL of a staging table; `plain` columns are written without a dictionary."""
    body = ", ".join(f"{tick(name)} {kind}" for name, kind in columns)
    divided = ""
    if partition_by:
        transform, column = partition_by
        divided = f"PARTITIONED BY ({transform}({tick(column)}))"
        divided = divided if transform else f"PARTITIONED BY ({tick(column)})"
    encodings = "".join(
        f", {spark_literal(f'{DICTIONARY}.column.{name}')}='false'" for name in plain
    )
    return (
        f"CREATE TABLE IF NOT EXISTS {relation} ({body}) USING iceberg {divided} "
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


def canonical(mapping: Mapping, side: str) -> str:
    """A text that both engines give for the same value; null stays null.

    Args:
        mapping: the column.
        side: `postgres` or `spark`.
    """
    kind = mapping.spark_type
    if side == "spark":
        return _spark_text(tick(mapping.column), kind)
    value = f"({mapping.expression})"
    if kind == "timestamp":
        return f"(extract(epoch FROM {value}) * 1000000)::bigint::text"
    if kind == "timestamp_ntz":
        return f"to_char({value}, 'YYYY-MM-DD HH24:MI:SS.US')"
    if kind == "binary":
        return f"encode({value}, 'hex')"
    if kind in BITS:
        send, bits, whole, _ = BITS[kind]
        return f"('x' || encode({send}({value}), 'hex'))::bit({bits})::{whole}::text"
    return f"{value}::text"


# Floating-point numbers are compared bit by bit: each engine writes them its own way.
BITS = {
    "float": ("float4send", 32, "int", "Float', 'floatToIntBits"),
    "double": ("float8send", 64, "bigint", "Double', 'doubleToLongBits"),
}


def _spark_text(name: str, kind: str) -> str:
    if kind == "timestamp":
        return f"cast(unix_micros({name}) AS string)"
    if kind == "timestamp_ntz":
        return f"date_format({name}, 'yyyy-MM-dd HH:mm:ss.SSSSSS')"
    if kind == "binary":
        return f"lower(hex({name}))"
    if kind in BITS:
        bits = (
            f"reflect('java.lang.{BITS[kind][3]}', coalesce({name}, cast(0 AS {kind})))"
        )
        return f"if({name} IS NULL, cast(null AS string), {bits})"
    return f"cast({name} AS string)"


def joined(texts: Sequence[str]) -> str:
    """Texts as one, so that no two rows of texts look alike; nulls are kept apart."""
    parts = ", ".join(f"coalesce('.' || {text}, '')" for text in texts)
    return f"concat_ws(chr(31), {parts})"


def number_of(digest: str, digits: int, side: str) -> str:
    """The first hexadecimal digits (up to 15) of an MD5, as a bigint."""
    if side == "spark":
        return f"cast(conv(substr({digest}, 1, {digits}), 16, 10) AS bigint)"
    zeros = "0" * (16 - digits)
    return f"('x{zeros}' || substr({digest}, 1, {digits}))::bit(64)::bigint"
