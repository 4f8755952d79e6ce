"""Times written as text, read exactly or not at all.

ISO 8601 with an offset is read by Arrow. Declared patterns are read by pandas, naive
times placed in the declared zone, where a time that the clock showed twice or never
is refused rather than shifted.
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from source.arrow import ArrowArray, array, compute, nulls
from source.chance import Ints
from source.csv_formats import EPOCH_MILLIS, EPOCH_SECONDS, ISO, TimeFormats
from source.tables import MOMENT

Mask = npt.NDArray[np.bool_]
SMALLEST_PIECE = 32
EARLIEST = int(np.datetime64("1900-01-01", "us").astype(np.int64))
LATEST = int(np.datetime64("2200-01-01", "us").astype(np.int64))
ISO_MOMENT = re.compile(
    r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d{1,6})?)?(Z|[+-]\d\d(:?\d\d)?)"
)
ISO_NAIVE = re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d*)?)?)?")
WHOLE = re.compile(r"-?\d{1,15}")
SLASHED = re.compile(r"(\d{1,2})[/.-](\d{1,2})[/.-]\d{2,4}.*")

# What each code of a pattern takes; for numbers of one or two digits: two, one.
ONE_OR_TWO = {
    "%m": ("1[0-2]", "[1-9]"),
    "%d": ("[12][0-9]|3[01]", "[1-9]"),
    "%H": ("1[0-9]|2[0-3]", "[0-9]"),
    "%I": ("1[0-2]", "[1-9]"),
    "%M": ("[1-5][0-9]", "[0-9]"),
    "%S": ("[1-5][0-9]", "[0-9]"),
}
SHAPES = {
    "%Y": "(?P<Y>[0-9]{4})", "%j": "(?P<j>[0-9]{3})", "%f": "[0-9]{1,6}", "%p": "[AaPp][Mm]",
    "%b": "[A-Za-z]+", "%B": "[A-Za-z]+", "%%": "%",
    "%z": "(?:Z|[+-][0-9]{2}(?::?[0-9]{2})?)",
}  # fmt: skip

REASONS = (
    (ISO_MOMENT, "no such time in the calendar"),
    (
        ISO_NAIVE,
        "a time without offset; declare a format and a timezone in formats.yml",
    ),
    (SLASHED, "day and month in an order that is not declared in formats.yml"),
    (WHOLE, "a bare number; declare epoch_s or epoch_ms in formats.yml"),
)


@dataclass(frozen=True)
class Times:
    """Values read: microseconds since 1970, which are good, and which are ambiguous."""

    micros: Ints
    good: Mask
    ambiguous: Mask


def cast_where_possible(
    texts: ArrowArray,
    kind: pa.DataType,
    cast: Callable[[ArrowArray], ArrowArray] | None = None,
) -> tuple[ArrowArray, Mask]:
    """Arrow's cast of strings, with null where a string cannot be cast.

    A column without faults costs one cast; each fault costs some dozens of small ones.

    Returns:
        The values, and which strings could be cast (nulls count as cast).
    """
    convert = cast or (lambda piece: piece.cast(kind))
    try:
        return convert(texts), np.ones(len(texts), dtype=bool)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        pass
    if len(texts) <= SMALLEST_PIECE:
        return _cast_each(texts, kind, convert)
    middle = len(texts) // 2
    left, left_good = cast_where_possible(texts[:middle], kind, cast)
    right, right_good = cast_where_possible(texts[middle:], kind, cast)
    return pa.concat_arrays([left, right]), np.concatenate([left_good, right_good])


def _cast_each(
    texts: ArrowArray, kind: pa.DataType, convert: Callable[[ArrowArray], ArrowArray]
) -> tuple[ArrowArray, Mask]:
    values, good = [], np.ones(len(texts), dtype=bool)
    for row in range(len(texts)):
        try:
            values.append(convert(texts[row : row + 1]))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            values.append(nulls(1, kind))
            good[row] = False
    return pa.concat_arrays(values) if values else nulls(0, kind), good


def read_times(texts: ArrowArray, formats: TimeFormats) -> Times:
    """Read moments by the declared formats.

    Args:
        texts: strings; nulls come out as not good.
        formats: what is declared; the first that fits wins, and a value that two
            of them read as different moments is ambiguous.
    """
    count = len(texts)
    micros = np.zeros(count, dtype=np.int64)
    good = np.zeros(count, dtype=bool)
    ambiguous = np.zeros(count, dtype=bool)
    for pattern in formats.formats:
        if pattern == ISO and good.all() and count:
            break
        values, fits, twice = _read(texts, pattern, formats.zone)
        ambiguous |= twice | (good & fits & (values != micros))
        micros = np.where(fits & ~good, values, micros)
        good |= fits
    return Times(micros, good & ~ambiguous, ambiguous)


def _read(texts: ArrowArray, pattern: str, zone: str | None) -> tuple[Ints, Mask, Mask]:
    nothing = np.zeros(len(texts), dtype=bool)
    if pattern == ISO:
        values, good = cast_where_possible(texts, MOMENT)
        return _plain(values), good & ~_nulls(texts), nothing
    if pattern in (EPOCH_SECONDS, EPOCH_MILLIS):
        return *_read_epoch(
            texts, 1_000_000 if pattern == EPOCH_SECONDS else 1000
        ), nothing
    return _read_pattern(texts, pattern, zone)


def _plain(values: ArrowArray) -> Ints:
    return np.asarray(values.cast(pa.int64()).fill_null(0), dtype=np.int64)


def _nulls(texts: ArrowArray) -> Mask:
    return np.asarray(texts.is_null(), dtype=bool)


def _read_epoch(texts: ArrowArray, scale: int) -> tuple[Ints, Mask]:
    found = [
        int(text) * scale if text is not None and WHOLE.fullmatch(text) else None
        for text in texts.to_pylist()
    ]
    good = np.array([value is not None and abs(value) < 2**62 for value in found])
    micros = [value if fine else 0 for value, fine in zip(found, good, strict=True)]
    return np.array(micros, dtype=np.int64), good.astype(bool)


def _read_pattern(
    texts: ArrowArray, pattern: str, zone: str | None
) -> tuple[Ints, Mask, Mask]:
    # Pandas is lenient: it reads "now" whatever the pattern says, makes the 61st second
    # the next minute, and cuts digits beyond the microsecond.
    form = shape(pattern)
    fits = compute.match_substring_regex(texts, form).fill_null(False)
    cells = compute.if_else(fits, texts, None).to_pylist()
    if "%j" in pattern:
        cells = [None if _is_day_366_of_365(form, text) else text for text in cells]
    has_offset = "%z" in pattern
    parsed = pd.to_datetime(
        pd.Series(cells, dtype="object"),
        format=pattern,
        errors="coerce",
        utc=has_offset,
    )
    naive = np.asarray(parsed.isna(), dtype=bool)
    twice = np.zeros(len(cells), dtype=bool)
    if not has_offset and zone is not None:
        placed = parsed.dt.tz_localize(zone, ambiguous="NaT", nonexistent="NaT")
        # Both of the hours that the clock shows twice exist; those it skips do not.
        lost = np.asarray(placed.isna(), dtype=bool) & ~naive
        if lost.any():
            moved = parsed.dt.tz_localize(
                zone, ambiguous=np.zeros(len(cells), dtype=bool), nonexistent="NaT"
            )
            twice = lost & ~np.asarray(moved.isna(), dtype=bool)
        parsed = placed
    good = ~np.asarray(parsed.isna(), dtype=bool)
    if parsed.dt.tz is not None:
        parsed = parsed.dt.tz_convert("UTC").dt.tz_localize(None)
    values = parsed.to_numpy().astype("datetime64[us]").astype(np.int64)
    return np.where(good, values, 0), good, twice


def shape(pattern: str) -> str:
    """The regular expression of what a strptime pattern takes, and nothing else.

    One digit may stand for two (`1/2/2023`), but not beside other digits, where it
    would be a guess which of them has one.
    """
    parts = re.findall(r"%.|[^%]+", pattern)
    digits = [part in ONE_OR_TWO or part in ("%Y", "%j", "%f") for part in parts]
    digits += [False]
    made = ""
    for index, part in enumerate(parts):
        if part in ONE_OR_TWO:
            crowded = digits[index + 1] or (index > 0 and digits[index - 1])
            high, low = ONE_OR_TWO[part]
            made += f"(?:{high}|0{low})" if crowded else f"(?:{high}|0?{low})"
        else:
            made += SHAPES.get(part) or re.escape(part)
    return f"^(?:{made})$"


def _is_day_366_of_365(form: str, text: str | None) -> bool:
    """Pandas would make it the first of January."""
    found = re.match(form, text) if text else None
    return bool(found and found["j"] == "366" and not calendar.isleap(int(found["Y"])))


def why_not(text: str, formats: TimeFormats, ambiguous: bool) -> str:
    """The reason for which a time is refused, for a person."""
    if ambiguous:
        return "ambiguous: the declared formats or the zone's clock give two moments"
    if formats.formats != (ISO,):
        return _why_not_declared(text, formats)
    for form, reason in REASONS:
        if form.fullmatch(text):
            return reason
    return "not an ISO 8601 time with offset"


def _why_not_declared(text: str, formats: TimeFormats) -> str:
    naive = TimeFormats(formats.formats, "UTC")
    if formats.zone and read_times(array([text]), naive).good[0]:
        return f"the clock in {formats.zone} skipped this time"
    return f"no such time, or not written as {' or '.join(formats.formats)}"
