"""Moves what readers see: forward to a tested branch, or back to an earlier publish.

One table moves in one atomic step; all of them in a sequence that the journal makes
recoverable. Tables that nobody but a build reads move first, so that the time in which
a reader can see some tables new and some old is as short as the engine allows.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

from common.errors import DataError
from common.progress import say
from publish import journal
from publish.journal import Entry, Journal, Move
from publish.lake import (
    MAIN,
    Lake,
    drop_branch,
    drop_columns,
    fast_forward,
    restore,
)
from publish.signals import held_back

BRANCH_PREFIX = "audit_"
BY_HAND = "audit"
"""The branch of `dbt build --target audit` said by hand."""


@dataclass(frozen=True)
class Moved:
    """What readers got.

    Attributes:
        id: the entry of the journal.
        tables: how many changed.
        mixed_window_seconds: for how long a reader could see some new and some old.
    """

    id: str
    tables: int
    mixed_window_seconds: float


def shown_snapshots(lake: Lake) -> dict[str, int]:
    """Table -> snapshot that readers see; tables without one left out."""
    heads = lake.heads(lake.tables())
    return {table: refs[MAIN] for table, refs in heads.items() if MAIN in refs}


def publish_branch(
    lake: Lake, branch: str, publish_id: str, base: Mapping[str, int]
) -> Moved:
    """Make a tested branch what readers see.

    Args:
        lake: sessions on the warehouse.
        branch: where the build has written.
        publish_id: the name of the publish in the journal.
        base: what readers saw when the build began, as of `shown_snapshots`.

    Raises:
        DataError: something else has written since the build began, or a table
            could not move; readers see what they saw before.
        ServiceError: the engine went away; the next command completes the publish.
    """
    heads = lake.heads(lake.tables())
    foreign = [t for t, refs in heads.items() if refs.get(MAIN) != base.get(t)]
    if foreign:
        raise DataError(
            f"Publishing: {', '.join(foreign)} changed since the branch was begun, by "
            "something else (a plain `dbt build`?); nothing was published",
            "let nothing else write to core, marts and snapshots, then run `ecom run`",
        )
    moves = tuple(
        Move(table, refs.get(MAIN), refs.get(branch, refs.get(MAIN)))
        for table, refs in heads.items()
        if branch in refs or MAIN in refs
    )
    ledger = Journal(lake)
    entry = Entry(publish_id, branch, publish_id, ledger.history().shown, moves)
    if not entry.changes:
        return Moved(publish_id, 0, 0.0)
    with held_back():
        ledger.intend(entry)
        try:
            window = _carry_out(lake, entry)
        except DataError as error:
            _undo(lake, entry)
            ledger.record(entry, journal.UNDONE)
            raise DataError(
                f"Publishing {branch}: {error.args[0]}; nothing was published",
                "run `ecom run` to build anew",
            ) from error
        ledger.record(entry, journal.PUBLISHED)
    lake.each(drop_branch(t, branch) for t, refs in heads.items() if branch in refs)
    return Moved(publish_id, len(entry.changes), window)


def roll_back(lake: Lake, entry_id: str, name: str | None = None) -> tuple[str, Moved]:
    """Make core and marts what they were at an earlier publish.

    Args:
        lake: sessions on the warehouse.
        entry_id: the name of the rollback in the journal.
        name: the publish to return to; none means the one before the present.

    Returns:
        The publish whose state readers have now, and what moved.

    Raises:
        DataError: there is no such publish, or a snapshot of it has expired; nothing
            has changed.
    """
    ledger = Journal(lake)
    past = ledger.history()
    shows, states = past.back_to(name)
    heads = lake.heads(lake.tables())
    moves = tuple(
        Move(table, refs.get(MAIN), states.get(table, refs.get(MAIN)))
        for table, refs in heads.items()
        if table.startswith(_restored(lake))
    )
    entry = Entry(entry_id, "", shows, past.shown, moves)
    expired = lake.expired((m.table, m.after) for m in entry.changes if m.after)
    if expired:
        raise DataError(
            f"Rolling back to publish {shows}: the snapshot of {', '.join(expired)} has "
            "expired; nothing was changed",
            "run `ecom run` to publish the present source",
        )
    with held_back():
        ledger.intend(entry)
        window = _carry_out(lake, entry)
        ledger.record(entry, journal.ROLLED_BACK)
    return shows, Moved(entry_id, len(entry.changes), window)


def recover(lake: Lake) -> Moved | None:
    """Complete or undo what died on its way, so that no reader stays with a mix.

    Returns:
        What was completed, with the time since it began as its window.
    """
    ledger = Journal(lake)
    cut_off = ledger.history().unfinished
    if cut_off is None:
        return None
    present = set(lake.tables())
    kept = tuple(move for move in cut_off.moves if move.table in present)
    entry = replace(cut_off, moves=kept)
    what = f"publish {entry.id}" if entry.branch else f"the rollback to {entry.shows}"
    with held_back():
        say(f"Completing {what}, which was cut off {entry.seconds:.0f} s ago")
        try:
            _carry_out(lake, entry)
            ledger.record(
                entry, journal.PUBLISHED if entry.branch else journal.ROLLED_BACK
            )
        except DataError as error:
            if not entry.branch:
                raise
            say(f"Undoing {what} instead: {error.args[0]}")
            _undo(lake, entry)
            ledger.record(entry, journal.UNDONE)
            return None
    return Moved(entry.id, len(entry.changes), entry.seconds)


def discard(lake: Lake, keep: str = "") -> None:
    """Forget what runs that failed have left: branches, tables, columns.

    Args:
        lake: sessions on the warehouse.
        keep: a branch that stays, with its tables and columns.
    """
    stale: dict[str, list[str]] = {}
    for table, refs in lake.heads(lake.tables()).items():
        if MAIN not in refs and keep not in refs:
            # No publish ever had it, and readers see it empty.
            lake.rows(restore(table, None))
            continue
        stale[table] = [
            name
            for name in refs
            if (name.startswith(BRANCH_PREFIX) or name == BY_HAND) and name != keep
        ]
    # One at a time of each table: two commits to it would be in each other's way.
    while any(stale.values()):
        lake.each(drop_branch(t, names.pop()) for t, names in stale.items() if names)
    if not keep:
        hide_new_columns(lake)


def hide_new_columns(lake: Lake, shown: Mapping[str, int] | None = None) -> None:
    """Take from sight the columns that the shown snapshot of a table has not.

    Iceberg adds a column to a table at once, whatever the branch. A snapshot knows
    the columns of its own time, so `version as of` still shows them.
    """
    added = lake.columns_since(shown_snapshots(lake) if shown is None else shown)
    lake.each(drop_columns(table, names) for table, names in added.items())
    for table, names in added.items():
        say(f"Columns of no publish are gone: {table} ({', '.join(names)})")


def _carry_out(lake: Lake, entry: Entry) -> float:
    """Move every table that has not moved yet; safe to repeat.

    Returns:
        Seconds in which a reader could see some moved and some not.
    """
    heads = lake.heads([move.table for move in entry.changes])
    waiting = {
        move.table: fast_forward(move.table, entry.branch)
        if entry.branch
        else restore(move.table, move.after)
        for move in entry.changes
        if heads[move.table].get(MAIN) != move.after
    }
    seen = [table for table in waiting if _is_read(lake, table)]
    lake.each(waiting[table] for table in waiting if table not in seen)
    began = time.monotonic()
    lake.each(waiting[table] for table in seen)
    window = round(time.monotonic() - began, 2) if len(seen) > 1 else 0.0
    if not entry.branch:
        hide_new_columns(
            lake, {m.table: m.after for m in entry.changes if m.after is not None}
        )
    return window


def _undo(lake: Lake, entry: Entry) -> None:
    """Give back what readers had, where it has moved; what others wrote stays."""
    heads = lake.heads([move.table for move in entry.changes])
    lake.each(
        restore(move.table, move.before)
        for move in entry.changes
        if heads[move.table].get(MAIN) == move.after
    )


def _restored(lake: Lake) -> tuple[str, str]:
    """What a table's name begins with where a rollback gives it back."""
    return f"{lake.schema('core')}.", f"{lake.schema('marts')}."


def _is_read(lake: Lake, table: str) -> bool:
    """Whether readers look at a table: not the build's own state and snapshots."""
    return table.startswith(_restored(lake)) and not table.endswith(".build_state")
