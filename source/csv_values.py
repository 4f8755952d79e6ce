"""Cells of text into typed columns, and the reason for each that is refused."""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from source.arrow import ArrowArray, array, compute, packed
from source.chance import Ints
from source.csv_formats import ISO, PLAIN, TimeFormats
from source.csv_times import (
    EARLIEST,
    LATEST,
    Mask,
    cast_where_possible,
    read_times,
    why_not,
)  # fmt: skip
from source.tables import MOMENT, UUID, Column
from source.timeline import DAY, EPOCH

UUID_LENGTH = 36
DASHES = (8, 13, 18, 23)
HEX_PLACES = [place for place in range(UUID_LENGTH) if place not in DASHES]
BAD = 255
NIBBLE = np.full(256, BAD, dtype=np.uint8)
for _value, _digits in enumerate(
    zip("0123456789abcdef", "0123456789ABCDEF", strict=True)
):
    for _digit in _digits:
        NIBBLE[ord(_digit)] = _value
INTEGER = re.compile(r"-?\d+")
AMOUNT = re.compile(r"-?\d+(\.\d*)?")


@dataclass(frozen=True)
class Values:
    """A typed column, which of its cells are good, and which times are ambiguous."""

    array: ArrowArray
    good: Mask
    ambiguous: Mask | None = None


def convert(
    column: Column, texts: ArrowArray, formats: TimeFormats, now: int
) -> Values:
    """Read one column's cells.

    Args:
        column: what is wanted.
        texts: strings, null where the cell is empty.
        formats: how times are written.
        now: microseconds since 1970; nothing may be recorded or born after it.
    """
    ambiguous = None
    if column.type == MOMENT:
        typed, good, ambiguous = _moments(column, texts, formats, now)
    elif column.type == pa.date32():
        typed, good, ambiguous = _days(texts, formats, now)
    elif column.type == UUID:
        typed, good = _uuids(texts)
    elif column.type == pa.string():
        typed, good = texts, np.ones(len(texts), dtype=bool)
        if column.allowed:
            good = np.asarray(compute.is_in(texts, array(column.allowed)))
    else:
        typed, good = _numbers(column, texts)
    empty = np.asarray(texts.is_null())
    return Values(typed, np.where(empty, column.nullable, good), ambiguous)


def _numbers(column: Column, texts: ArrowArray) -> tuple[ArrowArray, Mask]:
    typed, good = cast_where_possible(texts, column.type)
    # Arrow reads 0x1F, 1e3 and ' 7' as numbers; a feed that means them is rare.
    odd = compute.match_substring_regex(texts, r"[^0-9.\-]")
    good &= ~np.asarray(odd.fill_null(False), dtype=bool)
    if column.least is not None:
        low = compute.less(typed, pa.scalar(column.least, typed.type))
        good &= ~np.asarray(low.fill_null(False), dtype=bool)
    return typed, good


def _in_range(micros: Ints) -> Mask:
    return (micros >= EARLIEST) & (micros < LATEST)


def _moments(
    column: Column, texts: ArrowArray, formats: TimeFormats, now: int
) -> tuple[ArrowArray, Mask, Mask]:
    found = read_times(texts, formats)
    good = found.good & _in_range(found.micros)
    if column.name in ("updated_at", "recorded_at"):
        good &= found.micros < now + DAY
    return array(found.micros).cast(MOMENT), good, found.ambiguous


def _days(
    texts: ArrowArray, formats: TimeFormats, now: int
) -> tuple[ArrowArray, Mask, Mask]:
    if formats.formats == (ISO,):
        typed, good = cast_where_possible(texts, pa.date32())
        days = np.asarray(typed.cast(pa.int32()).fill_null(0), dtype=np.int64)
        ambiguous = np.zeros(len(texts), dtype=bool)
    else:
        # A day has no zone: midnight in UTC stands for it.
        patterns = tuple("%Y-%m-%d" if one == ISO else one for one in formats.formats)
        found = read_times(texts, TimeFormats(patterns, "UTC"))
        days, good, ambiguous = found.micros // DAY, found.good, found.ambiguous
    good = good & (days >= EARLIEST // DAY) & (days <= now // DAY)
    return (
        array(days.astype(np.int32), pa.date32(), mask=np.asarray(texts.is_null())),
        good,
        ambiguous,
    )


def _uuids(texts: ArrowArray) -> tuple[ArrowArray, Mask]:
    """UUIDs of the form 8-4-4-4-12, in either case, as 16 bytes each."""
    sized = np.asarray(
        compute.equal(compute.binary_length(texts), UUID_LENGTH).fill_null(False)
    )
    octets = np.zeros((len(texts), 16), dtype=np.uint8)
    good = np.zeros(len(texts), dtype=bool)
    kept = texts if sized.all() else texts.filter(array(sized))
    if len(kept):
        offsets = np.frombuffer(kept.buffers()[1], dtype=np.int32)
        begin = int(offsets[kept.offset])
        data = np.frombuffer(kept.buffers()[2], dtype=np.uint8)[begin:]
        cells = data[: UUID_LENGTH * len(kept)].reshape(len(kept), UUID_LENGTH)
        nibbles = NIBBLE[cells[:, HEX_PLACES]]
        fine = (cells[:, DASHES] == ord("-")).all(axis=1) & (nibbles != BAD).all(axis=1)
        octets[sized] = (nibbles[:, 0::2] << 4) | (nibbles[:, 1::2] & 15)
        good[sized] = fine
    return packed(UUID, octets), good


def reason(
    column: Column, text: str | None, formats: TimeFormats, ambiguous: bool, now: int
) -> str:
    """Why a cell is refused, for a person."""
    if text is None:
        return "empty, and a value is needed"
    if column.allowed:
        return f"not one of {', '.join(column.allowed)}"
    if column.type == UUID:
        return "not a UUID such as 123e4567-e89b-12d3-a456-426614174000"
    if column.type in (MOMENT, pa.date32()):
        return _time_reason(column, text, formats, ambiguous)
    return _number_reason(column, text)


def _time_reason(
    column: Column, text: str, formats: TimeFormats, ambiguous: bool
) -> str:
    texts = array([text])
    is_day = column.type == pa.date32()
    if not ambiguous:
        far = convert(column, texts, formats, LATEST)
        if far.good[0]:
            return "in the future"
        if _reads(texts, formats, is_day):
            return "before 1900 or after 2199"
    if is_day and formats == PLAIN:
        try:
            dt.date.fromisoformat(text)
        except ValueError as error:
            if "range" in str(error) or "day" in str(error):
                return "no such day in the calendar"
        return "not a day written YYYY-MM-DD"
    return why_not(text, formats, ambiguous)


def _reads(texts: ArrowArray, formats: TimeFormats, is_day: bool) -> bool:
    if is_day and formats.formats == (ISO,):
        return bool(cast_where_possible(texts, pa.date32())[1][0])
    return bool(read_times(texts, formats).good[0])


def _number_reason(column: Column, text: str) -> str:
    if pa.types.is_decimal(column.type):
        if not AMOUNT.fullmatch(text):
            return "not an amount such as 12.50"
        if len(text.partition(".")[2].rstrip("0")) > column.type.scale:
            return "more than two decimals; nothing is rounded"
    elif not INTEGER.fullmatch(text):
        return "not a whole number"
    if column.least is not None and float(text) < column.least:
        return f"below {column.least}"
    return f"too large for {column.sql_type}"


def now_micros() -> int:
    """This moment in microseconds since 1970."""
    now = dt.datetime.now(dt.timezone.utc)
    start = dt.datetime(EPOCH.year, 1, 1, tzinfo=dt.timezone.utc)
    return (now - start) // dt.timedelta(microseconds=1)
