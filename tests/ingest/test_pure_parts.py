"""The pure parts of ingest: bounds, types, statements, manifest."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as s

from common.errors import UsageError
from ingest import manifest
from ingest.bounds import Horizon, Watermark, next_lower, went_back
from ingest.run import DEFAULT_MANIFEST
from ingest.types import SourceColumn, map_column

moments = s.datetimes(
    datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=s.just(timezone.utc)
)
LOOKBACK = timedelta(minutes=10)


def horizon(
    asked_at: datetime,
    oldest_open: datetime | None = None,
    prepared: int = 0,
    complete: bool = True,
    xmax: int = 100,
    system: str = "1",
) -> Horizon:
    return Horizon(asked_at, oldest_open, prepared, complete, xmax, system, False)


@given(moments, s.none() | moments, s.booleans())
def test_no_open_transaction_starts_before_the_bound(
    asked_at: datetime, opened: datetime | None, complete: bool
) -> None:
    opened = min(opened, asked_at) if opened else None
    bound = next_lower(horizon(asked_at, opened, complete=complete), None, LOOKBACK)
    assert bound is not None
    assert bound < asked_at
    assert opened is None or bound < opened
    assert complete or bound <= asked_at - LOOKBACK


@given(moments, s.none() | moments)
def test_a_prepared_transaction_holds_the_bound(
    asked_at: datetime, previous: datetime | None
) -> None:
    assert next_lower(horizon(asked_at, prepared=1), previous, LOOKBACK) == previous


@given(moments, moments)
def test_the_bound_never_goes_back(asked_at: datetime, previous: datetime) -> None:
    bound = next_lower(horizon(asked_at, asked_at), previous, LOOKBACK)
    assert bound is not None
    assert bound >= previous


@given(s.none() | moments, moments, s.integers(0, 2**63))
def test_a_watermark_survives_its_own_text(
    lower: datetime | None, loaded_at: datetime, xmax: int
) -> None:
    mark = Watermark(lower, "b", loaded_at, xmax, "sys")
    assert Watermark.from_json(mark.to_json()) == mark


def test_a_source_that_went_back_is_noticed() -> None:
    now = datetime(2026, 1, 2, tzinfo=timezone.utc)
    mark = Watermark(now, "b", now, 100, "1")
    later = now + timedelta(hours=1)
    assert went_back(horizon(later), mark) is None
    assert "counter" in str(went_back(horizon(later, xmax=99), mark))
    assert "cluster" in str(went_back(horizon(later, system="2"), mark))
    assert "clock" in str(went_back(horizon(now - timedelta(days=1)), mark))


@pytest.mark.parametrize(
    ("column", "spark_type", "checked"),
    [
        (SourceColumn("a", "int8"), "bigint", False),
        (SourceColumn("a", "numeric", 12, 2), "decimal(12,2)", True),
        (SourceColumn("a", "numeric"), "decimal(38,18)", True),
        (SourceColumn("a", "numeric", 3, 5), "decimal(5,5)", True),
        (SourceColumn("a", "numeric", 5, -2), "decimal(7,0)", True),
        (SourceColumn("a", "uuid"), "string", False),
        (SourceColumn("a", "timestamptz"), "timestamp", True),
        (SourceColumn("a", "timestamp"), "timestamp_ntz", True),
        (SourceColumn("a", "date"), "date", True),
        (SourceColumn("a", "jsonb"), "string", False),
    ],
)
def test_types_land_exactly_or_are_checked(
    column: SourceColumn, spark_type: str, checked: bool
) -> None:
    mapping = map_column(column)
    assert mapping.spark_type == spark_type
    assert (mapping.unfit is not None) == checked


def test_an_unknown_override_is_refused() -> None:
    with pytest.raises(UsageError, match="varchar"):
        map_column(SourceColumn("a", "text"), "varchar(3)")


TABLE = "  - {name: t, key: [id], cursor: at, mode: upsert"
BROKEN = {
    "unknown field": (TABLE + ", colour: red}\n", 3, "colour"),
    "no key": ("  - {name: t, cursor: at, mode: upsert}\n", 3, "key"),
    "bad mode": ("  - {name: t, key: [id], mode: sometimes}\n", 3, "sometimes"),
    "full with cursor": (
        "  - {name: t, key: [id], cursor: at, mode: full}\n",
        3,
        "cursor",
    ),
    "append without cursor": ("  - {name: t, key: [id], mode: append}\n", 3, "cursor"),
    "bad transform": (TABLE + ", partition_by: weeks(at)}\n", 3, "weeks"),
    "twice": (TABLE + "}\n" + TABLE + "}\n", 3, "twice"),
    "not a number": (TABLE + ", lookback_seconds: soon}\n", 3, "whole number"),
    "not yaml": ("  - {name: [\n", 4, "YAML"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_manifest_is_refused_with_its_line(name: str, tmp_path: Path) -> None:
    body, line, word = BROKEN[name]
    path = tmp_path / "tables.yml"
    path.write_text(f"version: 1\ntables:\n{body}", encoding="utf-8")
    with pytest.raises(UsageError, match=word) as refused:
        manifest.load(path)
    assert f"{path}:{line}" in str(refused.value)


def test_the_shipped_manifest_is_sound() -> None:
    found = manifest.load(DEFAULT_MANIFEST)
    assert [t.name for t in found.tables] == [
        "customers", "products", "orders", "order_items", "interactions",
    ]  # fmt: skip
    with pytest.raises(UsageError, match="nothing_like_it"):
        found.select(["nothing_like_it"])
