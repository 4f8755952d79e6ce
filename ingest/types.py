"""PostgreSQL types as Spark types: landed exactly, or rejected with a reason.

Each mapping gives the expression the server evaluates (so that nothing is cut or
shifted on the way) and the condition under which a value has no exact place in the
Spark type. Conditions are written to be false, never null, for a null value.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from common.errors import UsageError

MAX_PRECISION = 38
BARE_NUMERIC = (38, 18)
DECIMAL = re.compile(r"^decimal\(\s*(\d+)\s*,\s*(\d+)\s*\)$", re.IGNORECASE)
DATE_RANGE = ("0001-01-01", "9999-12-31")

DIRECT = {
    "bool": "boolean",
    "int2": "smallint",
    "int4": "int",
    "int8": "bigint",
    "float4": "float",
    "float8": "double",
    "bytea": "binary",
    "text": "string",
    "varchar": "string",
    # Sent in 16 bytes; the driver writes it as PostgreSQL does.
    "uuid": "string",
}


@dataclass(frozen=True)
class SourceColumn:
    """A column as PostgreSQL's catalogue has it.

    Attributes:
        name: the column's name, unquoted.
        type_name: the base type's `typname` (domains resolved), e.g. `numeric`.
        precision: digits of a numeric, or None where unconstrained.
        scale: digits after the point of a numeric, or None.
        nullable: whether nulls are allowed.
    """

    name: str
    type_name: str
    precision: int | None = None
    scale: int | None = None
    nullable: bool = True


@dataclass(frozen=True)
class Mapping:
    """How one column travels.

    Attributes:
        column: the source column's name.
        spark_type: the type in staging.
        expression: SQL the server evaluates, of exactly that type.
        unfit: SQL condition for a value that cannot be represented, or None.
        reason: what is wrong with such a value.
    """

    column: str
    spark_type: str
    expression: str
    unfit: str | None = None
    reason: str = ""


def quote(identifier: str) -> str:
    """A PostgreSQL identifier in double quotes."""
    return '"' + identifier.replace('"', '""') + '"'


def map_column(column: SourceColumn, override: str | None = None) -> Mapping:
    """The mapping of a column, by its type or by the manifest's override.

    Raises:
        UsageError: the override is no type this column can take.
    """
    name, kind = quote(column.name), column.type_name
    if override and DECIMAL.match(override):
        return _decimal(column, *map(int, DECIMAL.match(override).groups()))  # type: ignore[union-attr]
    if override and override.lower() == "string":
        return Mapping(column.name, "string", f"{name}::text")
    if override:
        raise UsageError(
            f"Column {column.name}: type override {override!r} is not known",
            "use decimal(p,s) with p up to 38, or string",
        )
    if kind in DIRECT:
        return Mapping(column.name, DIRECT[kind], name)
    if kind == "numeric":
        return _numeric(column)
    if kind == "date":
        return _ranged(column, "date", "date")
    if kind in ("timestamptz", "timestamp"):
        spark = "timestamp" if kind == "timestamptz" else "timestamp_ntz"
        return _ranged(column, spark, kind)
    if kind == "bpchar":
        # A cast to text drops the padding that the declared length gives back.
        return Mapping(column.name, "string", f"format('%s', {name})")
    return Mapping(column.name, "string", f"{name}::text")


def _numeric(column: SourceColumn) -> Mapping:
    precision, scale = column.precision, column.scale
    if precision is None or scale is None:
        return _decimal(column, *BARE_NUMERIC)
    if scale < 0:
        return _decimal(column, min(precision - scale, MAX_PRECISION), 0)
    if scale > precision:
        return _decimal(column, min(scale, MAX_PRECISION), min(scale, MAX_PRECISION))
    return _decimal(column, min(precision, MAX_PRECISION), min(scale, MAX_PRECISION))


def _decimal(column: SourceColumn, precision: int, scale: int) -> Mapping:
    if not 1 <= precision <= MAX_PRECISION or scale > precision:
        raise UsageError(
            f"Column {column.name}: decimal({precision},{scale}) is not a Spark type",
            "use a precision from 1 to 38 and a scale up to the precision",
        )
    name = quote(column.name)
    value = name if column.type_name == "numeric" else f"{name}::numeric"
    unfit = f"{value} = 'NaN'::numeric"
    fits = (
        column.precision is not None
        and column.scale is not None
        and (column.precision <= precision and 0 <= column.scale <= scale)
    )
    if not fits:
        limit = f"1e{precision - scale}::numeric"
        # NaN sorts above every number, so it and the infinities fail the range too.
        unfit = f"{value} >= {limit} OR {value} <= -{limit} OR {value} <> round({value}, {scale})"
    return Mapping(
        column.name,
        f"decimal({precision},{scale})",
        f"{value}::numeric({precision},{scale})",
        f"coalesce({unfit}, false)",
        f"not representable as decimal({precision},{scale})",
    )


def _ranged(column: SourceColumn, spark_type: str, kind: str) -> Mapping:
    name = quote(column.name)
    low, high = DATE_RANGE
    zone = "+00" if kind == "timestamptz" else ""
    last = f"{high} 23:59:59.999999{zone}" if kind != "date" else high
    first = f"{low} 00:00:00{zone}" if kind != "date" else low
    return Mapping(
        column.name,
        spark_type,
        name,
        f"coalesce({name} NOT BETWEEN '{first}'::{kind} AND '{last}'::{kind}, false)",
        f"not a {kind} between {low} and {high}",
    )
