"""What readers were given, in the lake itself: intent before, outcome after.

An entry of the journal moves readers from one state of the warehouse to another: a
publish to what its branch has, a rollback to what an earlier publish gave them. Its
rows in `ops.publishes` name every table with its snapshot before and after, also where
they are the same, so that an entry is a whole state; they are written before the first
table moves. `ops.publish_events` has what became of it: `published` or `rolled_back`
when all tables had moved, `undone` where it could not be completed and readers have
what they had before. An entry without an event died on its way: the next command
completes it, or undoes it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from common.errors import DataError
from ingest.statements import spark_literal
from publish.lake import Lake

KEPT = 10
"""Publishes that `ecom rollback` can return to, and whose snapshots `maintain` keeps."""

PUBLISHED, ROLLED_BACK, UNDONE = "published", "rolled_back", "undone"

_PUBLISHES = {
    "publish_id": "string", "started_at": "timestamp", "branch": "string",
    "table_name": "string", "before_snapshot": "bigint", "after_snapshot": "bigint",
    "shows": "string", "shown_before": "string",
}  # fmt: skip
_EVENTS = {"publish_id": "string", "happened_at": "timestamp", "event": "string"}


@dataclass(frozen=True)
class Move:
    """One table of an entry; snapshots are Iceberg ids, None where there is no table."""

    table: str
    before: int | None
    after: int | None


@dataclass(frozen=True)
class Entry:
    """A publish or a rollback as the journal has it.

    Attributes:
        id: its name; that of a publish is its run's.
        branch: what a publish moves the tables to; empty for a rollback.
        shows: the publish whose state readers have after it: itself, for a publish.
        shown_before: the publish whose state they had; empty before the first.
        moves: every table of the warehouse.
        event: what became of it; empty while it is under way.
        started_at: UTC, to the second.
        seconds: from its start until now, or until its event.
    """

    id: str
    branch: str
    shows: str
    shown_before: str
    moves: tuple[Move, ...]
    event: str = ""
    started_at: str = ""
    seconds: float = 0.0

    @property
    def changes(self) -> list[Move]:
        """The tables that it changes."""
        return [move for move in self.moves if move.before != move.after]


class Journal:
    """Reads and writes the journal."""

    def __init__(self, lake: Lake) -> None:
        self._lake = lake
        self.publishes = f"{lake.schema('ops')}.publishes"
        self._events = f"{lake.schema('ops')}.publish_events"

    def prepare(self) -> None:
        """Make the journal's tables, and columns of theirs, where they are missing."""
        ops = self._lake.schema("ops")
        if (ops,) not in self._lake.rows("SHOW NAMESPACES"):
            self._lake.rows(f"CREATE NAMESPACE IF NOT EXISTS {ops}")
        ensure(self._lake, {self.publishes: _PUBLISHES, self._events: _EVENTS})

    def intend(self, entry: Entry) -> None:
        """Write down what is about to move, in one commit."""
        texts = [spark_literal(t) for t in (entry.id, entry.branch)]
        shows = [spark_literal(t) for t in (entry.shows, entry.shown_before)]
        rows = [
            f"({texts[0]}, current_timestamp(), {texts[1]}, {spark_literal(m.table)}, "
            f"{_number(m.before)}, {_number(m.after)}, {', '.join(shows)})"
            for m in entry.moves
        ]
        self._lake.rows(
            f"INSERT INTO {self.publishes} ({', '.join(_PUBLISHES)}) "
            f"VALUES {', '.join(rows)}"
        )

    def record(self, entry: Entry, event: str) -> None:
        """Write down what became of an entry."""
        self._lake.rows(
            f"INSERT INTO {self._events} VALUES ({spark_literal(entry.id)}, "
            f"current_timestamp(), {spark_literal(event)})"
        )

    def history(self) -> History:
        """The newest entries; enough to return to any of the publishes kept."""
        rows = self._lake.rows(
            f"WITH newest AS (SELECT publish_id, max(started_at) AS at FROM "
            f"{self.publishes} GROUP BY publish_id ORDER BY at DESC LIMIT {4 * KEPT}), "
            f"ends AS (SELECT publish_id, max_by(event, happened_at) AS event, "
            f"max(happened_at) AS at FROM {self._events} GROUP BY publish_id) "
            f"SELECT p.publish_id, p.branch, coalesce(p.shows, ''), "
            f"coalesce(p.shown_before, ''), coalesce(e.event, ''), "
            f"date_format(n.at, 'yyyy-MM-dd HH:mm:ss'), "
            f"cast(coalesce(e.at, current_timestamp()) AS double) - cast(n.at AS double), "
            f"p.table_name, p.before_snapshot, p.after_snapshot FROM newest n "
            f"JOIN {self.publishes} p ON p.publish_id = n.publish_id "
            f"LEFT JOIN ends e ON e.publish_id = n.publish_id "
            f"ORDER BY n.at DESC, p.publish_id, p.table_name"
        )
        entries = []
        for head, group in groupby(rows, lambda row: row[:7]):
            name, branch, shows, before, event, at, seconds = head
            moves = tuple(Move(*row[7:]) for row in group)
            entries.append(
                Entry(name, branch, shows, before, moves, event, at, round(seconds, 2))
            )
        return History(entries)


class History:
    """Entries of the journal, newest first."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self.entries = list(entries)

    @property
    def unfinished(self) -> Entry | None:
        """The newest entry, where it died on its way."""
        newest = self.entries[0] if self.entries else None
        return newest if newest is not None and not newest.event else None

    @property
    def shown(self) -> str:
        """The publish whose state readers have; empty before the first."""
        stand = (e for e in self.entries if e.event in (PUBLISHED, ROLLED_BACK))
        return next((entry.shows for entry in stand), "")

    @property
    def kept(self) -> list[Entry]:
        """The publish that readers see and those before it, at most `KEPT`."""
        known = {entry.id: entry for entry in self.entries if entry.id == entry.shows}
        chain: list[Entry] = []
        name = self.shown
        while name in known and len(chain) < KEPT:
            chain.append(known[name])
            name = known[name].shown_before
        return chain

    def back_to(self, name: str | None) -> tuple[str, dict[str, int | None]]:
        """What a rollback returns to: a publish, and table -> snapshot.

        Args:
            name: one of the publishes kept; none means the one before the present.

        Raises:
            DataError: there is no such publish, or readers see it.
        """
        chain = self.kept
        if not name and chain and chain[0].shown_before:
            return chain[0].shown_before, {m.table: m.before for m in chain[0].moves}
        for number, found in enumerate(chain):
            if number and found.id == name:
                newer = [move for entry in chain[:number] for move in entry.moves]
                made = {m.table: None for m in newer if m.before is None}
                return found.id, {**made, **{m.table: m.after for m in found.moves}}
        missing = f"no earlier publish {name}" if name else "no publish before this one"
        raise DataError(
            f"Rolling back: {missing} is kept; nothing was changed",
            "`ecom rollback --list` shows what is kept; `ecom run` publishes anew",
        )


def ensure(lake: Lake, tables: Mapping[str, Mapping[str, str]]) -> None:
    """Make tables of the platform's own records, and columns that they lack.

    Args:
        lake: sessions on the warehouse.
        tables: name -> column -> type.
    """
    present = lake.tables(("ops",))
    for table, columns in tables.items():
        if table not in present:
            lake.rows(_create(table, columns))
            continue
        described = lake.rows(f"DESCRIBE QUERY SELECT * FROM {table}")
        known = {row[0] for row in described}
        for name, kind in columns.items():
            if name not in known:
                lake.rows(f"ALTER TABLE {table} ADD COLUMNS ({name} {kind})")


def _create(table: str, columns: Mapping[str, str]) -> str:
    listed = ", ".join(f"{name} {kind}" for name, kind in columns.items())
    return (
        f"CREATE TABLE IF NOT EXISTS {table} ({listed}) USING iceberg TBLPROPERTIES ("
        "'write.metadata.delete-after-commit.enabled' = 'true', "
        "'write.metadata.previous-versions-max' = '20')"
    )


def _number(snapshot: int | None) -> str:
    return "cast(null AS bigint)" if snapshot is None else str(snapshot)
