"""What a run takes from the lake's metadata, and what it keeps in the home."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from common.errors import UsageError
from ingest import manifest
from ingest.bounds import Watermark
from ingest.engine import landed_from
from ingest.plan import connections_of, parallel_tables
from ingest.remembered import Remembered
from ingest.split import Split, bounded

NOON = datetime(2026, 1, 1, 12, tzinfo=timezone.utc)
HOUR = timedelta(hours=1)


def mark(batch: str) -> str:
    return Watermark(NOON, batch, NOON, 100, "1").to_json()


def test_the_watermark_is_that_of_the_newest_ancestor_that_has_one() -> None:
    rows = [
        (1, None, mark("first"), "10"), (2, None, mark("rolled back"), "20"),
        (3, None, None, "10"), (1, NOON, None, None), (3, NOON + HOUR, None, None),
    ]  # fmt: skip
    found = landed_from(rows)
    assert found.watermark is not None
    assert found.watermark.batch == "first"
    assert (found.rows, found.snapshot, found.newest) == (10, 3, False)
    assert found.made_at == NOON + HOUR
    assert landed_from(rows[:1] + rows[3:4]).newest


def test_a_table_without_a_commit_holds_nothing() -> None:
    found = landed_from([])
    assert (found.watermark, found.rows, found.snapshot) == (None, 0, None)


def test_counts_are_remembered_for_their_snapshot_and_question_alone(
    tmp_path: Path,
) -> None:
    kept = Remembered(tmp_path / "counts" / "t.json")
    assert kept.recall(1, "q") is None
    kept.keep(1, "q", {-3: (1, -2, 3)})
    assert kept.recall(1, "q") == {-3: (1, -2, 3)}
    assert kept.recall(2, "q") is None
    assert kept.recall(1, "other") is None
    kept.file.write_text("{half", encoding="utf-8")
    assert kept.recall(1, "q") is None


@pytest.mark.parametrize(
    ("connections", "tables", "each"), [(None, 3, None), (1, 1, 1), (8, 3, 2)]
)
def test_connections_are_shared_by_the_tables_read_at_a_time(
    connections: int | None, tables: int, each: int | None, tmp_path: Path
) -> None:
    path = tmp_path / "tables.yml"
    said = f", connections: {connections}" if connections else ""
    path.write_text(
        f"version: 1\nsource: {{schema: public{said}}}\ntables:\n"
        "  - {name: t, key: [id], mode: full}\n",
        encoding="utf-8",
    )
    found = manifest.load(path)
    assert (parallel_tables(found), connections_of(found)) == (tables, each)
    split = bounded(Split(("a", "b", "c"), in_order=True), each)
    assert split.tasks == (each or 3)
    assert split.in_order == (each is None)


def test_no_connection_at_all_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tables.yml"
    path.write_text(
        "version: 1\nsource:\n  connections: 0\ntables:\n"
        "  - {name: t, key: [id], mode: full}\n",
        encoding="utf-8",
    )
    with pytest.raises(UsageError, match="3: `connections` must be at least 1"):
        manifest.load(path)
