"""PostgreSQL types as Spark types: landed exactly, or rejected with a reason.

Each mapping gives the expression the server evaluates (so that nothing is cut or
shifted on the way) and the conditions under which a value has no exact place in the
Spark type. Conditions are written to be false, never null, for a null value.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from common.errors import UsageError

MAX_PRECISION = 38
BARE_NUMERIC = (38, 18)
DECIMAL = re.compile(r"^decimal\(\s*(\d+)\s*,\s*(\d+)\s*\)$", re.IGNORECASE)
DATE_RANGE = ("0001-01-01", "9999-12-31")
INTEGER_RANGES = {"int": (-(2**31), 2**31 - 1), "bigint": (-(2**63), 2**63 - 1)}

# Iceberg has no 16-bit integer.
DIRECT = {
    "bool": "boolean",
    "int2": "int",
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
WHOLE = ("int2", "int4", "int8")
NUMBERS = (*WHOLE, "numeric", "float4", "float8")
CURSORS = ("timestamptz", "timestamp", "date", *WHOLE)
KNOWN_OVERRIDES = "string, decimal(p,s) with p up to 38, int, bigint, timestamp"


@dataclass(frozen=True)
class SourceColumn:
    """A column as PostgreSQL's catalogue has it.

    Attributes:
        name: the column's name, unquoted.
        type_name: the base type's `typname` (domains resolved), e.g. `numeric`;
            for a type that is not PostgreSQL's own, with its schema before it.
        precision: digits of a numeric, or None where unconstrained.
        scale: digits after the point of a numeric, or None.
        nullable: whether nulls are allowed.
        declared: the type as declared, for people and for noticing changes.
        number: the column's number in the table; a column that is dropped and
            made again has another one.
    """

    name: str
    type_name: str
    precision: int | None = None
    scale: int | None = None
    nullable: bool = True
    declared: str = ""
    number: int = 0


@dataclass(frozen=True)
class Mapping:
    """How one column travels.

    Attributes:
        column: the source column's name.
        spark_type: the type in staging.
        expression: SQL the server evaluates, of the type nearest to that.
        faults: (SQL condition, reason) of values that cannot be represented.
    """

    column: str
    spark_type: str
    expression: str
    faults: tuple[tuple[str, str], ...] = ()

    @property
    def unfit(self) -> str | None:
        """SQL condition for a value that cannot be represented, or None."""
        return " OR ".join(f"({condition})" for condition, _ in self.faults) or None


def quote(identifier: str) -> str:
    """A PostgreSQL identifier in double quotes."""
    return '"' + identifier.replace('"', '""') + '"'


def map_column(
    column: SourceColumn, override: str | None = None, in_key: bool = False
) -> Mapping:
    """The mapping of a column, by its type or by the manifest's override.

    A unique index lets nulls repeat, so a null in a key identifies no row.

    Raises:
        UsageError: the override is no type this column can take.
    """
    found = _overridden(column, override.lower()) if override else _default(column)
    if in_key and column.nullable:
        null = (f"{quote(column.name)} IS NULL", "null in a key column")
        found = replace(found, faults=(*found.faults, null))
    return found


def _default(column: SourceColumn) -> Mapping:
    name, kind = quote(column.name), column.type_name
    if kind in DIRECT:
        return Mapping(column.name, DIRECT[kind], name)
    if kind == "numeric":
        return _numeric(column)
    if kind == "date":
        return _ranged(column, "date")
    if kind in ("timestamptz", "timestamp"):
        return _ranged(
            column, "timestamp" if kind == "timestamptz" else "timestamp_ntz"
        )
    if kind == "bpchar":
        # A cast to text drops the padding that the declared length gives back.
        return Mapping(column.name, "string", f"format('%s', {name})")
    return Mapping(column.name, "string", f"{name}::text")


def _overridden(column: SourceColumn, override: str) -> Mapping:
    kind, default = column.type_name, _default(column)
    wanted = DECIMAL.match(override)
    if wanted and kind in NUMBERS:
        return _decimal(column, *map(int, wanted.groups()))
    if override == default.spark_type:
        return default
    if override in INTEGER_RANGES and kind in (*WHOLE, "numeric"):
        return _integer(column, override)
    if override == "timestamp" and kind == "timestamp":
        moment = f"({quote(column.name)} AT TIME ZONE 'UTC')"
        return replace(default, spark_type="timestamp", expression=moment)
    if override == "string":
        return Mapping(column.name, "string", f"{quote(column.name)}::text")
    raise UsageError(
        f"column {column.name}: type override {override!r} is not known, or cannot "
        f"hold {column.declared or kind}",
        f"use one of {KNOWN_OVERRIDES}, where the column's own type allows it",
    )


def _numeric(column: SourceColumn) -> Mapping:
    precision, scale = column.precision, column.scale
    if precision is None or scale is None:
        return _decimal(column, *BARE_NUMERIC)
    if scale < 0:
        return _decimal(column, min(precision - scale, MAX_PRECISION), 0)
    if scale > precision:
        return _decimal(column, min(scale, MAX_PRECISION), min(scale, MAX_PRECISION))
    return _decimal(column, min(precision, MAX_PRECISION), min(scale, MAX_PRECISION))


def _as_numeric(column: SourceColumn) -> str:
    """A number as `numeric`; floats by their shortest text, infinities as NaN."""
    name = quote(column.name)
    if column.type_name == "numeric":
        return name
    if column.type_name in WHOLE:
        return f"{name}::numeric"
    return f"(CASE WHEN abs({name}) = 'Infinity' THEN 'NaN' ELSE {name}::text END)::numeric"


def _decimal(column: SourceColumn, precision: int, scale: int) -> Mapping:
    if not 1 <= precision <= MAX_PRECISION or scale > precision:
        raise UsageError(
            f"column {column.name}: decimal({precision},{scale}) is not a Spark type",
            "use a precision from 1 to 38 and a scale up to the precision",
        )
    value = _as_numeric(column)
    unfit = f"{value} = 'NaN'::numeric"
    fits = (
        column.precision is not None
        and column.scale is not None
        and column.precision - column.scale <= precision - scale
        and 0 <= column.scale <= scale
    )
    if not fits:
        limit = f"1e{precision - scale}::numeric"
        # NaN sorts above every number, so it and the infinities fail the range too.
        unfit = f"{value} >= {limit} OR {value} <= -{limit} OR {value} <> round({value}, {scale})"
    return Mapping(
        column.name,
        f"decimal({precision},{scale})",
        f"{value}::numeric({precision},{scale})",
        (
            (
                f"coalesce({unfit}, false)",
                f"not representable as decimal({precision},{scale})",
            ),
        ),
    )


def _integer(column: SourceColumn, override: str) -> Mapping:
    name = quote(column.name)
    low, high = INTEGER_RANGES[override]
    whole = f" OR {name} <> trunc({name})" if column.type_name == "numeric" else ""
    unfit = f"coalesce({name} > {high} OR {name} < {low}{whole}, false)"
    target = {"int": "int4", "bigint": "int8"}[override]
    return Mapping(
        column.name,
        override,
        f"{name}::{target}",
        ((unfit, f"not representable as {override}"),),
    )


def _ranged(column: SourceColumn, spark_type: str) -> Mapping:
    name, kind = quote(column.name), column.type_name
    low, high = DATE_RANGE
    zone = "+00" if kind == "timestamptz" else ""
    last = f"{high} 23:59:59.999999{zone}" if kind != "date" else high
    first = f"{low} 00:00:00{zone}" if kind != "date" else low
    return Mapping(
        column.name,
        spark_type,
        name,
        (
            (
                f"coalesce({name} NOT BETWEEN '{first}'::{kind} AND '{last}'::{kind}, false)",
                f"not a {kind} between {low} and {high}",
            ),
        ),
    )
