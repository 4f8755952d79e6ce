"""Where key sets differ: counts and hashes by key range, on both sides.

An unchanged table costs one aggregate here and one there. Each row's key and cursor
go into the hash, so that a row whose cursor moved against the clock is found too, and
only ranges that differ are read again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ingest import statements as st
from ingest.types import Mapping, quote

RANGES = 1024
MODULUS = 2**31 - 1
SPREAD, SHIFT = 48271, 1013904223
BIGINT = (-(2**63), 2**63 - 1)

Counts = dict[int, tuple[int, int, int]]


@dataclass(frozen=True)
class Ranges:
    """How the keys of one table are divided.

    Attributes:
        column: the leading integer key column that is divided by value; None
            where keys are divided by hash.
        width: values in a range.
        low, high: the least and greatest range of the source.
    """

    column: str | None
    width: int = 1
    low: int = 0
    high: int = RANGES - 1


def divide(
    key: Sequence[str], kinds: dict[str, str], extent: tuple[int, int] | None
) -> Ranges:
    """Ranges for a key; by value where its first column is an integer."""
    if extent is None or kinds[key[0]] not in st.INTEGERS:
        return Ranges(None)
    low, high = extent
    width = max((high - low) // RANGES, 1)
    return Ranges(key[0], width, _quotient(low, width), _quotient(high, width))


def fingerprint(
    ranges: Ranges,
    key: Sequence[str],
    cursor: str | None,
    mappings: Sequence[Mapping],
    relation: str,
    condition: str,
    side: str,
) -> str:
    """SQL that gives (range, count, sum of hashes, another sum) for each range.

    Args:
        ranges: how keys are divided.
        key: the key columns.
        cursor: hashed along with the key, or None.
        mappings: of all columns.
        relation: the table, quoted for the side.
        condition: the rows that count.
        side: `postgres` or `spark`.
    """
    by_name = {m.column: m for m in mappings}
    hashed = _mixed([_key_number(by_name, key, side)])
    place = _place(ranges, hashed, side)
    if cursor:
        moved = f"coalesce({_cursor_number(by_name[cursor], side)}, 7)"
        hashed = _mixed([hashed, moved])
    return (
        "SELECT b, count(*) AS n, sum(q) AS s, "
        f"sum(q * (z % {MODULUS}) % {MODULUS}) AS t FROM (SELECT b, z, z * z % {MODULUS} AS q "
        f"FROM (SELECT {place} AS b, {hashed} AS z FROM {relation} WHERE {condition}) x) y "
        "GROUP BY b"
    )


def differing(
    ranges: Ranges,
    key: Sequence[str],
    mappings: Sequence[Mapping],
    apart: Sequence[int],
    side: str,
) -> str:
    """The condition that holds for keys in the ranges `apart`, on one side."""
    if ranges.column is None:
        by_name = {m.column: m for m in mappings}
        hashed = _mixed([_key_number(by_name, key, side)])
        chosen = ", ".join(str(one) for one in sorted(apart))
        return f"{_place(ranges, hashed, side)} IN ({chosen})"
    name = quote(ranges.column) if side == "postgres" else st.tick(ranges.column)
    parts = [
        " AND ".join(
            [f"{name} >= {low}" if low is not None else "true"]
            + ([f"{name} <= {high}"] if high is not None else [])
        )
        for low, high in _spans(ranges, apart)
    ]
    return "(" + " OR ".join(f"({part})" for part in parts) + ")"


def _spans(ranges: Ranges, apart: Sequence[int]) -> list[tuple[int | None, int | None]]:
    """Neighbouring ranges as one span of key values; the outermost are open."""
    spans: list[tuple[int | None, int | None]] = []
    last: int | None = None
    for one in sorted(apart):
        low = _least(one, ranges.width) if one >= ranges.low else None
        high = _least(one + 1, ranges.width) - 1 if one <= ranges.high else None
        low = None if low is not None and low < BIGINT[0] else low
        high = None if high is not None and high > BIGINT[1] else high
        if spans and last is not None and one == last + 1:
            spans[-1] = (spans[-1][0], high)
        else:
            spans.append((low, high))
        last = one
    return spans


def _least(one: int, width: int) -> int:
    """The least value that division by `width`, cut towards zero, puts in a range."""
    return one * width if one > 0 else (one - 1) * width + 1


def _quotient(value: int, width: int) -> int:
    return value // width if value >= 0 else -(-value // width)


def _place(ranges: Ranges, hashed: str, side: str) -> str:
    if ranges.column is None:
        return f"abs({hashed} % {RANGES})"
    name = quote(ranges.column) if side == "postgres" else st.tick(ranges.column)
    divided = (
        f"{name}::bigint / {ranges.width}" if side == "postgres"
        else f"(cast({name} AS bigint) div {ranges.width})"
    )  # fmt: skip
    return f"least(greatest({divided}, {ranges.low - 1}), {ranges.high + 1})"


def _mixed(numbers: Sequence[str]) -> str:
    """Numbers as one in (-MODULUS, MODULUS), without leaving 64 bits."""
    text = f"cast({SHIFT} AS bigint)"
    for number in numbers:
        text = f"(({text} * {SPREAD} + ({number}) % {MODULUS}) % {MODULUS})"
    return text


def _key_number(by_name: dict[str, Mapping], key: Sequence[str], side: str) -> str:
    """A whole number for a key, the same on both sides."""
    if all(by_name[name].spark_type in st.INTEGERS for name in key):
        return _mixed([_whole(by_name[name], side) for name in key])
    text = st.joined([st.canonical(by_name[name], side) for name in key])
    return st.number_of(f"md5({text})", 14, side)


def _whole(mapping: Mapping, side: str) -> str:
    value = f"({mapping.expression})" if side == "postgres" else st.tick(mapping.column)
    return f"cast({value} AS bigint)"


def _cursor_number(mapping: Mapping, side: str) -> str:
    """A whole number for a cursor; times in microseconds.

    PostgreSQL's `date_part` is binary and ten times as fast as exact arithmetic;
    where it rounds (before 1684 or after 2255) ranges are read that need not be.
    """
    kind = mapping.spark_type
    if kind in st.INTEGERS:
        return _whole(mapping, side)
    if side == "spark":
        name = st.tick(mapping.column)
        if kind == "date":
            return f"cast(unix_date({name}) AS bigint)"
        return f"unix_micros(cast({name} AS timestamp))"
    value = f"({mapping.expression})"
    if kind == "date":
        return f"({value} - DATE '1970-01-01')::bigint"
    return f"round(date_part('epoch', {value}) * 1000000)::bigint"
