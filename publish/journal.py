"""What readers were given, in the lake itself: intent before, outcome after.

An entry of the journal moves readers from one state of the warehouse to another: a
publish to what its branch has, a rollback to what an earlier publish gave them. Its
rows in `ops.publishes` name every table with its snapshot before and after, also where
they are the same, so that an entry is a whole state; they are written before the first
table moves. `ops.publish_events` has what became of it: `published` or `rolled_back`
when all tables had moved, `undone` where it could not be completed and readers have
what they had before. An entry without an event died on its way: the next command
completes it, or undoes it. Entries go by their number, not by the clock.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from itertools import groupby
from operator import itemgetter

from common.errors import DataError
from ingest.statements import spark_literal
from publish.lake import Lake

KEPT = 10
"""Publishes that `ecom rollback` can return to, and whose snapshots `maintain` keeps."""

PUBLISHED, ROLLED_BACK, UNDONE = "published", "rolled_back", "undone"

_PUBLISHES = {
    "publish_id": "string", "started_at": "timestamp", "branch": "string",
    "table_name": "string", "before_snapshot": "bigint", "after_snapshot": "bigint",
    "shows": "string", "shown_before": "string", "number": "bigint",
}  # fmt: skip
_CLAIM = "ecom.branch"
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
        number: its place in the journal.
        event: what became of it; empty while it is under way.
        started_at: UTC, to the second.
        seconds: from its start until now, or until its event.
    """

    id: str
    branch: str
    shows: str
    shown_before: str
    moves: tuple[Move, ...]
    number: int = 0
    event: str = ""
    started_at: str = ""
    seconds: float = 0.0

    @property
    def what(self) -> str:
        """The entry in words."""
        return f"publish {self.id}" if self.branch else f"the rollback to {self.shows}"

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

    def prepare(self, others: Mapping[str, Mapping[str, str]] | None = None) -> None:
        """Make the journal's tables and others, and columns, where they are missing.

        Args:
            others: as for `ensure`.
        """
        ours = {self.publishes: _PUBLISHES, self._events: _EVENTS}
        ensure(self._lake, {**ours, **(others or {})})

    def claim(self, branch: str) -> None:
        """Make a run the one whose branch counts: the last to begin, from any home."""
        self._lake.rows(
            f"ALTER TABLE {self.publishes} SET TBLPROPERTIES "
            f"({spark_literal(_CLAIM)} = {spark_literal(branch)})"
        )

    def claimant(self) -> str:
        """The branch that counts; empty before the first run."""
        rows = self._lake.rows(f"SHOW TBLPROPERTIES {self.publishes}")
        found: dict[str, str] = {row[0]: row[1] for row in rows}
        return found.get(_CLAIM, "")

    def intend(self, entry: Entry) -> None:
        """Write down what is about to move, in one commit."""
        texts = [spark_literal(t) for t in (entry.id, entry.branch)]
        shows = [spark_literal(t) for t in (entry.shows, entry.shown_before)]
        rows = [
            f"({texts[0]}, current_timestamp(), {texts[1]}, {spark_literal(m.table)}, "
            f"{_number(m.before)}, {_number(m.after)}, {', '.join(shows)}, {entry.number})"
            for m in entry.moves
        ]
        self._lake.rows(
            f"INSERT INTO {self.publishes} ({', '.join(_PUBLISHES)}) "
            f"VALUES {', '.join(rows)}"
        )

    def record(self, entry: Entry, event: str) -> None:
        """Write down what became of an entry."""
        self._lake.rows(self.recording(entry, event))

    def recording(self, entry: Entry, event: str) -> str:
        """The statement that writes it down."""
        return (
            f"INSERT INTO {self._events} VALUES ({spark_literal(entry.id)}, "
            f"current_timestamp(), {spark_literal(event)})"
        )

    def history(self) -> History:
        """The newest entries; enough to return to any of the publishes kept."""
        ends, rows = self._lake.each([
            f"SELECT publish_id, event, cast(happened_at AS double) FROM {self._events}",
            f"SELECT publish_id, branch, shows, shown_before, number, "
            f"cast(started_at AS double), table_name, before_snapshot, after_snapshot, "
            f"cast(current_timestamp() AS double) FROM {self.publishes} WHERE "
            f"coalesce(number, 0) > (SELECT coalesce(max(number), 0) FROM "
            f"{self.publishes}) - {4 * KEPT}",
        ])  # fmt: skip
        became = {
            name: (event, at) for name, event, at in sorted(ends, key=itemgetter(2))
        }
        entries = []
        newest = sorted(rows, key=lambda row: (-(row[4] or 0), -row[5], row[0], row[6]))
        for head, group in groupby(newest, itemgetter(slice(6))):
            name, branch, shows, before, number, began = head
            found = list(group)
            event, ended = became.get(name, ("", found[0][9]))
            at = datetime.fromtimestamp(began, timezone.utc)
            entries.append(
                Entry(
                    id=name,
                    branch=branch,
                    shows=shows or "",
                    shown_before=before or "",
                    moves=tuple(Move(*row[6:9]) for row in found),
                    number=number or 0,
                    event=event,
                    started_at=f"{at:%Y-%m-%d %H:%M:%S}",
                    seconds=round(max(ended - began, 0.0), 2),
                )
            )
        return History(entries)


class History:
    """Entries of the journal, newest first."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self.entries = list(entries)

    def next(self, name: str, branch: str, shows: str, moves: Sequence[Move]) -> Entry:
        """The entry that follows on these."""
        number = self.entries[0].number + 1 if self.entries else 1
        return Entry(name, branch, shows, self.shown, tuple(moves), number)

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
    if not present:
        lake.rows(f"CREATE NAMESPACE IF NOT EXISTS {lake.schema('ops')}")
    there = [table for table in tables if table in present]
    described = lake.each(f"DESCRIBE QUERY SELECT * FROM {table}" for table in there)
    known = {table: {row[0] for row in rows} for table, rows in zip(there, described)}
    lake.each(_create(t, columns) for t, columns in tables.items() if t not in known)
    for table, names in known.items():
        missing = [f"{n} {k}" for n, k in tables[table].items() if n not in names]
        if missing:
            lake.rows(f"ALTER TABLE {table} ADD COLUMNS ({', '.join(missing)})")


def _create(table: str, columns: Mapping[str, str]) -> str:
    listed = ", ".join(f"{name} {kind}" for name, kind in columns.items())
    return (
        f"CREATE TABLE IF NOT EXISTS {table} ({listed}) USING iceberg TBLPROPERTIES ("
        "'write.metadata.delete-after-commit.enabled' = 'true', "
        "'write.metadata.previous-versions-max' = '20')"
    )


def _number(snapshot: int | None) -> str:
    return "cast(null AS bigint)" if snapshot is None else str(snapshot)
