"""`formats.yml` beside the CSV files: how times are written where not in ISO 8601.

```yaml
timezone: Europe/London          # of naive times, for all columns that name none
orders:
  ordered_at: ["%d/%m/%Y %H:%M", iso]
interactions:
  occurred_at: {formats: [epoch_ms]}
  recorded_at: {formats: ["%Y-%m-%d %H:%M:%S"], timezone: UTC}
```
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import pyarrow as pa
import yaml

from common.errors import UsageError
from source.tables import MOMENT, TABLES, Column, Table

FILE = "formats.yml"
ISO, EPOCH_SECONDS, EPOCH_MILLIS = "iso", "epoch_s", "epoch_ms"
NAMED = (ISO, EPOCH_SECONDS, EPOCH_MILLIS)
KNOWN = set("YmdHMSfzbBpIj%")
CODE = re.compile(r"%(.?)", re.DOTALL)
# What must not stand beside each other: the one would overrule the other.
RIVALS = ("jm", "jd", "jb", "jB", "mb", "mB", "bB", "HI", "Hp")


@dataclass(frozen=True)
class TimeFormats:
    """How one column's moments or days are written.

    Attributes:
        formats: `iso`, `epoch_s`, `epoch_ms` or strptime patterns, tried in order.
        zone: IANA name for values without offset, or None.
    """

    formats: tuple[str, ...] = (ISO,)
    zone: str | None = None


PLAIN = TimeFormats()
Formats = dict[tuple[str, str], TimeFormats]


def read_formats(folder: Path) -> Formats:
    """The formats declared in a folder; columns not named are ISO 8601.

    Returns:
        Formats by (table, column).

    Raises:
        UsageError: the file is not readable or declares what cannot be.
    """
    path = folder / FILE
    if not path.exists():
        return {}
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise _wrong(path, f"it is no YAML: {str(error).splitlines()[0]}") from None
    if not isinstance(document, dict):
        raise _wrong(path, "it is not a mapping of tables")
    default = _zone(path, document.pop("timezone", None))
    found: Formats = {}
    tables = {table.name: table for table in TABLES}
    for name, columns in document.items():
        table = tables.get(str(name).removesuffix(".csv"))
        if table is None:
            raise _wrong(path, f"{name!r} is no table; there are {', '.join(tables)}")
        if not isinstance(columns, dict):
            raise _wrong(path, f"{name} is not a mapping of columns")
        for column_name, value in columns.items():
            column = _column(path, table, column_name)
            found[table.name, column.name] = _formats(path, column, value, default)
    return found


def _column(path: Path, table: Table, name: Any) -> Column:
    if name not in table.names:
        raise _wrong(path, f"{table.name} has no column {name!r}")
    column = table.column(name)
    if column.type not in (MOMENT, pa.date32()):
        raise _wrong(path, f"{table.name}.{name} is no time and needs no format")
    return column


def _formats(
    path: Path, column: Column, value: Any, default: str | None
) -> TimeFormats:
    zone = default
    if isinstance(value, dict):
        unknown = set(value) - {"formats", "timezone"}
        if unknown:
            raise _wrong(path, f"{column.name}: unknown field {sorted(unknown)[0]!r}")
        zone = _zone(path, value.get("timezone")) or default
        value = value.get("formats")
    listed = [value] if isinstance(value, str) else value
    if not isinstance(listed, list) or not listed:
        raise _wrong(path, f"{column.name}: no list of formats")
    for pattern in listed:
        _check(path, column, pattern, zone)
    if EPOCH_SECONDS in listed and EPOCH_MILLIS in listed:
        raise _wrong(
            path, f"{column.name}: epoch_s and epoch_ms together would be guessed"
        )
    return TimeFormats(tuple(listed), zone)


def _check(path: Path, column: Column, pattern: Any, zone: str | None) -> None:
    where = f"{column.name}: format {pattern!r}"
    if not isinstance(pattern, str):
        raise _wrong(path, f"{where} is not text")
    if pattern in NAMED:
        if column.type == pa.date32() and pattern != ISO:
            raise _wrong(path, f"{where} gives a moment, and the column is a day")
        return
    codes = CODE.findall(pattern)
    wrong = _fault(codes)
    if wrong:
        raise _wrong(path, f"{where} {wrong}")
    if column.type == MOMENT and "z" not in codes and zone is None:
        raise _wrong(path, f"{where} has no offset (%z) and no timezone is declared")


def _fault(codes: list[str]) -> str | None:
    """What is wrong with a pattern of these codes, if anything."""
    present = set(codes)
    whole = "Y" in present and (
        "j" in present or ("d" in present and present & set("mbB"))
    )
    twice = [code for code in present if code != "%" and codes.count(code) > 1]
    rivals = [pair for pair in RIVALS if set(pair) <= present]
    if not codes:
        return f"is neither {', '.join(NAMED)} nor a pattern"
    if "y" in present:
        return "would guess the century of %y; use %Y"
    if present - KNOWN:
        return f"has %{min(present - KNOWN)}, which is not supported"
    if twice:
        return f"has %{min(twice)} twice"
    if rivals:
        return f"has both %{rivals[0][0]} and %{rivals[0][1]}"
    if not whole:
        return "lacks year, month or day"
    if "I" in present and "p" not in present:
        return "has %I without %p, which leaves the half of the day open"
    return None


def _zone(path: Path, name: Any) -> str | None:
    if name is None:
        return None
    try:
        ZoneInfo(str(name))
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise _wrong(path, f"timezone {name!r} is not known") from None
    return str(name)


def _wrong(path: Path, what: str) -> UsageError:
    return UsageError(
        f"Reading {path}: {what}", "see docs/source.md, formats.yml, for what it takes"
    )
