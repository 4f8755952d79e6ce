"""The pure parts of ingest: bounds, types, statements, manifest."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as s

from common.errors import UsageError
from ingest import manifest
from ingest.bounds import (
    PUBLISH_MARGIN,
    Candidate,
    Horizon,
    Watermark,
    next_lower,
    next_number,
    went_back,
)
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
    xids: tuple[int, int] = (100, 100),
    system: str = "1",
    timeline: int = 1,
) -> Horizon:
    return Horizon(
        asked_at, oldest_open, prepared, complete, *xids, system, timeline, False
    )


@given(moments, s.none() | moments, s.booleans())
def test_no_open_transaction_starts_before_the_bound(
    asked_at: datetime, opened: datetime | None, complete: bool
) -> None:
    opened = min(opened, asked_at) if opened else None
    asked = horizon(asked_at, opened, complete=complete)
    bound, _ = next_lower(asked, None, None, LOOKBACK)
    assert isinstance(bound, datetime)
    assert bound < asked_at
    assert not complete or opened is None or bound < opened
    assert complete or bound <= asked_at - LOOKBACK


@given(moments, s.none() | moments)
def test_a_prepared_transaction_holds_the_bound(
    asked_at: datetime, previous: datetime | None
) -> None:
    asked = horizon(asked_at, prepared=1, xids=(90, 100))
    bound, candidate = next_lower(asked, previous, None, LOOKBACK)
    assert bound == previous
    later = horizon(asked_at + LOOKBACK, prepared=1, xids=(95, 120))
    assert next_lower(later, bound, candidate, LOOKBACK) == (previous, candidate)
    others = horizon(asked_at + LOOKBACK, prepared=1, xids=(105, 120))
    bound, _ = next_lower(others, bound, candidate, LOOKBACK)
    assert bound == max(asked_at - PUBLISH_MARGIN, previous or asked_at - LOOKBACK)


@given(moments, s.none() | moments)
def test_a_lookback_that_is_given_holds_for_a_known_horizon_too(
    asked_at: datetime, opened: datetime | None
) -> None:
    opened = min(opened, asked_at) if opened else None
    bound, _ = next_lower(horizon(asked_at, opened), None, None, LOOKBACK, LOOKBACK)
    assert bound == (opened or asked_at) - LOOKBACK


@given(moments, moments)
def test_the_bound_never_goes_back(asked_at: datetime, previous: datetime) -> None:
    bound, _ = next_lower(horizon(asked_at, asked_at), previous, None, LOOKBACK)
    assert isinstance(bound, datetime)
    assert bound >= previous


@dataclass(frozen=True)
class Transaction:
    """Seconds at which it began, wrote first, was prepared (or never) and ended."""

    began: int
    wrote: int
    prepared: int | None
    ended: int


@s.composite
def histories(draw: s.DrawFn) -> tuple[list[Transaction], list[int]]:
    """Transactions, and the seconds at which an ingest asks for the horizon."""
    found = []
    for _ in range(draw(s.integers(1, 12))):
        began = draw(s.integers(0, 200))
        wrote = began + draw(s.integers(0, 20))
        prepared = wrote + draw(s.integers(1, 40)) if draw(s.booleans()) else None
        ended = (prepared or wrote) + draw(s.integers(1, 80))
        found.append(Transaction(began, wrote, prepared, ended))
    asks = draw(s.lists(s.integers(0, 320), min_size=2, max_size=8, unique=True))
    return found, [*sorted(asks), 400]


START = datetime(2026, 1, 1, tzinfo=timezone.utc)


@settings(max_examples=400)
@given(histories(), s.booleans(), s.booleans())
def test_whatever_commits_when_every_row_is_read(
    history: tuple[list[Transaction], list[int]], complete: bool, by_number: bool
) -> None:
    transactions, asks = history
    order = sorted(transactions, key=lambda t: t.wrote)
    number = {id(t): place for place, t in enumerate(order, start=1)}
    lookback = timedelta(seconds=20)
    lower: datetime | int | None = None
    candidate = None
    before = -1
    for ask in asks:
        snapshot = ask + 1
        for t in transactions:
            if before < t.ended <= snapshot and lower is not None and before >= 0:
                at = START + timedelta(seconds=t.began)
                assert (number[id(t)] if by_number else at) >= lower  # type: ignore[operator]
        asked = _asked(transactions, number, ask, complete)
        if by_number:
            seen = [number[id(t)] for t in transactions if t.ended <= ask]
            reached = max(seen, default=None)
            lower, candidate = next_number(asked, lower, reached, candidate, lookback)
        else:
            lower, candidate = next_lower(asked, lower, candidate, lookback)
        before = snapshot


def _asked(
    transactions: list[Transaction], number: dict[int, int], ask: int, complete: bool
) -> Horizon:
    """What PostgreSQL would answer at second `ask`, with a snapshot a second later."""
    running = [t for t in transactions if t.began <= ask < (t.prepared or t.ended)]
    pending = [t for t in transactions if t.prepared and t.prepared <= ask < t.ended]
    snapshot = ask + 1
    given_out = [t for t in transactions if t.wrote <= snapshot]
    xmax = len(given_out) + 1
    xmin = min((number[id(t)] for t in given_out if t.ended > snapshot), default=xmax)
    oldest = min((t.began for t in running), default=None)
    return Horizon(
        START + timedelta(seconds=ask),
        None if oldest is None else START + timedelta(seconds=oldest),
        len(pending), complete, xmin, xmax, "1", 1, not complete,
    )  # fmt: skip


@given(
    s.none() | moments | s.integers(-(2**63), 2**63 - 1), moments, s.integers(0, 2**63)
)
def test_a_watermark_survives_its_own_text(
    lower: datetime | int | None, loaded_at: datetime, xmax: int
) -> None:
    waiting = None if lower is None else Candidate(lower, loaded_at, xmax)
    mark = Watermark(lower, "b", loaded_at, xmax, "sys", 3, waiting, "s", {"1": 2})
    assert Watermark.from_json(mark.to_json()) == mark


def test_a_source_that_went_back_is_noticed() -> None:
    now = datetime(2026, 1, 2, tzinfo=timezone.utc)
    mark = Watermark(now, "b", now, 100, "1", 1)
    later = now + timedelta(hours=1)
    assert went_back(horizon(later), mark) is None
    assert "counter" in str(went_back(horizon(later, xids=(99, 99)), mark))
    assert "standby" in str(went_back(horizon(later, timeline=2), mark))
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
    "too little": (TABLE + ", lookback_seconds: -1}\n", 3, "at least 0"),
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


def test_a_wrong_version_is_refused_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "tables.yml"
    path.write_text(f"# My tables\ntables:\n{TABLE}}}\nversion: 2\n", encoding="utf-8")
    with pytest.raises(UsageError, match="`version` must be 1") as refused:
        manifest.load(path)
    assert f"{path}:4" in str(refused.value)


def test_the_shipped_manifest_is_sound() -> None:
    found = manifest.load(DEFAULT_MANIFEST)
    assert [t.name for t in found.tables] == [
        "customers", "products", "orders", "order_items", "interactions",
    ]  # fmt: skip
    kept_apart = manifest.load(DEFAULT_MANIFEST, "ci_1_")
    assert (kept_apart.target_schema, kept_apart.ops_schema) == (
        "ci_1_staging",
        "ci_1_ops",
    )
    with pytest.raises(UsageError, match="nothing_like_it"):
        found.select(["nothing_like_it"])
