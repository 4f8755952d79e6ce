"""What was published, in the lake itself: intent before, completion after.

`ops.publishes` has a row per table of each publish, written before the first table
moves. `ops.publish_events` has what became of it: `published` when all tables had
moved, `rolled_back` later. A publish without an event died on its way: the next
command completes it, since every table it names was tested.
"""

from __future__ import annotations

from dataclasses import dataclass

from common.errors import DataError
from common.progress import say
from publish.lake import Lake, fast_forward, set_current

PUBLISHES = "ops.publishes"
EVENTS = "ops.publish_events"
ROLLED_BACK_SCHEMAS = ("core.", "marts.")


@dataclass(frozen=True)
class Move:
    """One table of a publish; snapshots are Iceberg ids."""

    table: str
    before: int | None
    after: int


@dataclass(frozen=True)
class Publish:
    """A publish as the journal has it."""

    id: str
    branch: str
    moves: tuple[Move, ...]


class Journal:
    """Reads and writes the journal."""

    def __init__(self, lake: Lake) -> None:
        self._lake = lake

    def prepare(self) -> None:
        """Make the journal's tables where they are missing."""
        self._lake.rows("CREATE NAMESPACE IF NOT EXISTS ops")
        self._lake.rows(
            f"CREATE TABLE IF NOT EXISTS {PUBLISHES} (publish_id string, "
            "started_at timestamp, branch string, table_name string, "
            "before_snapshot bigint, after_snapshot bigint) USING iceberg"
        )
        self._lake.rows(
            f"CREATE TABLE IF NOT EXISTS {EVENTS} (publish_id string, "
            "happened_at timestamp, event string) USING iceberg"
        )

    def intend(self, publish: Publish) -> None:
        """Write down what is about to move, in one commit."""
        rows = ", ".join(
            f"('{publish.id}', current_timestamp(), '{publish.branch}', '{m.table}', "
            f"{m.before if m.before is not None else 'cast(null AS bigint)'}, {m.after})"
            for m in publish.moves
        )
        self._lake.rows(f"INSERT INTO {PUBLISHES} VALUES {rows}")

    def record(self, publish_id: str, event: str) -> None:
        """Write down what became of a publish."""
        self._lake.rows(
            f"INSERT INTO {EVENTS} VALUES ('{publish_id}', current_timestamp(), '{event}')"
        )

    def latest(self) -> Publish | None:
        """The newest publish that has not been rolled back."""
        return self._newest(
            f"publish_id NOT IN (SELECT publish_id FROM {EVENTS} "
            "WHERE event = 'rolled_back')"
        )

    def unfinished(self) -> Publish | None:
        """A publish that died between its intent and its completion."""
        return self._newest(f"publish_id NOT IN (SELECT publish_id FROM {EVENTS})")

    def _newest(self, condition: str) -> Publish | None:
        rows = self._lake.rows(
            f"SELECT publish_id, branch, table_name, before_snapshot, after_snapshot "
            f"FROM {PUBLISHES} WHERE publish_id = (SELECT max_by(publish_id, started_at) "
            f"FROM {PUBLISHES} WHERE {condition}) ORDER BY table_name"
        )
        if not rows:
            return None
        moves = tuple(Move(row[2], row[3], row[4]) for row in rows)
        return Publish(rows[0][0], rows[0][1], moves)


def carry_out(lake: Lake, publish: Publish) -> None:
    """Move every table that has not moved yet; safe to repeat."""
    heads = lake.heads([move.table for move in publish.moves])
    waiting = [
        fast_forward(move.table, publish.branch)
        for move in publish.moves
        if heads[move.table].get("main") != move.after
    ]
    lake.each(waiting)


def recover(lake: Lake, journal: Journal) -> None:
    """Complete a publish that died on its way."""
    unfinished = journal.unfinished()
    if unfinished is None:
        return
    say(f"Completing publish {unfinished.id}, which was interrupted")
    carry_out(lake, unfinished)
    journal.record(unfinished.id, "published")


def roll_back(lake: Lake, journal: Journal) -> Publish:
    """Make core and marts what they were before the last publish.

    Raises:
        DataError: there is no publish to take back.
    """
    publish = journal.latest()
    if publish is None:
        raise DataError(
            "Rolling back: nothing has been published that could be taken back",
            "run `ecom run` to publish the present source",
        )
    statements = [
        set_current(move.table, move.before)
        for move in publish.moves
        if move.before is not None and move.table.startswith(ROLLED_BACK_SCHEMAS)
    ]
    lake.each(statements)
    journal.record(publish.id, "rolled_back")
    return publish
