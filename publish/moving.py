"""Moves what readers see: forward to a tested branch, or back to an earlier publish.

One table moves in one atomic step; all of them in a sequence that the journal makes
recoverable. Tables that nobody but a build reads move first, so that the time in which
a reader can see some tables new and some old is as short as the engine allows.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from common.errors import DataError, ServiceError
from common.progress import say
from publish import journal
from publish.journal import Entry, History, Journal, Move
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
        shown: every table of the warehouse -> snapshot that readers see now.
    """

    id: str
    tables: int
    mixed_window_seconds: float
    shown: dict[str, int] = field(default_factory=dict)


def shown_snapshots(lake: Lake) -> dict[str, int]:
    """Table -> snapshot that readers see; tables without one left out."""
    return _shown(lake.heads(lake.tables()))


def publish_branch(
    lake: Lake, branch: str, publish_id: str, base: Mapping[str, int], past: History
) -> Moved:
    """Make a tested branch what readers see.

    Args:
        lake: sessions on the warehouse.
        branch: where the build has written.
        publish_id: the name of the publish in the journal.
        base: what readers saw before the build, as of `shown_snapshots`.
        past: the journal as it was then; nothing has been published since, or tables
            were not as in `base`.

    Raises:
        DataError: something else has written since the build began, or a table
            could not move; readers see what they saw before.
        ServiceError: the engine went away, or a table can move neither forward nor
            back; the next command completes or undoes the publish.
    """
    ledger = Journal(lake)
    other = ledger.claimant()
    if other not in ("", branch):
        raise DataError(
            f"Publishing {branch}: a run of another home has begun since, on {other}, and "
            "with that has taken this branch away; nothing was published",
            "let one home at a time write to a warehouse, then run `ecom run`",
        )
    heads = lake.heads(lake.tables())
    foreign = [t for t, refs in heads.items() if refs.get(MAIN) != base.get(t)]
    if foreign:
        raise DataError(
            f"Publishing: {', '.join(foreign)} changed since the run began, by "
            "something else (a plain `dbt build`?); nothing was published",
            "let nothing else write to core, marts and snapshots, then run `ecom run`",
        )
    moves = [
        Move(table, refs.get(MAIN), refs.get(branch, refs.get(MAIN)))
        for table, refs in heads.items()
        if branch in refs or MAIN in refs
    ]
    entry = past.next(publish_id, branch, publish_id, moves)
    shown = {move.table: move.after for move in moves if move.after is not None}
    if not entry.changes:
        return Moved(publish_id, 0, 0.0, shown)
    used = [
        drop_branch(table, branch) for table, refs in heads.items() if branch in refs
    ]
    with held_back():
        _intend(ledger, entry)
        say(f"Moving {len(entry.changes)} tables to {branch}")
        window = _carry_out(lake, entry, heads, used)
    return Moved(publish_id, len(entry.changes), window, shown)


def roll_back(
    lake: Lake, entry_id: str, past: History, name: str | None = None
) -> tuple[str, Moved]:
    """Make core and marts what they were at an earlier publish.

    Args:
        lake: sessions on the warehouse.
        entry_id: the name of the rollback in the journal.
        past: the journal.
        name: the publish to return to; none means the one before the present.

    Returns:
        The publish whose state readers have now, and what moved.

    Raises:
        DataError: there is no such publish, or a snapshot of it has expired; nothing
            has changed.
        ServiceError: as for `publish_branch`.
    """
    shows, states = past.back_to(name)
    heads = lake.heads(lake.tables())
    moves = [
        Move(table, refs.get(MAIN), states.get(table, refs.get(MAIN)))
        for table, refs in heads.items()
        if table.startswith(_restored(lake))
    ]
    entry = past.next(entry_id, "", shows, moves)
    expired = lake.expired((m.table, m.after) for m in entry.changes if m.after)
    if expired:
        raise DataError(
            f"Rolling back to publish {shows}: the snapshot of {', '.join(expired)} has "
            "expired; nothing was changed",
            "run `ecom run` to publish the present source",
        )
    with held_back():
        _intend(Journal(lake), entry)
        window = _carry_out(lake, entry, heads)
    return shows, Moved(entry_id, len(entry.changes), window)


def recover(lake: Lake, past: History) -> Moved | None:
    """Complete or undo what died on its way, so that no reader stays with a mix.

    Returns:
        What was completed, with the time since it began as its window.
    """
    cut_off = past.unfinished
    if cut_off is None:
        return None
    heads = lake.heads(lake.tables())
    entry = replace(cut_off, moves=tuple(m for m in cut_off.moves if m.table in heads))
    with held_back():
        say(f"Completing {entry.what}, which was cut off {entry.seconds:.0f} s ago")
        try:
            _carry_out(lake, entry, heads)
        except DataError as error:
            say(str(error.args[0]))
            return None
    return Moved(entry.id, len(entry.changes), entry.seconds)


def discard(lake: Lake, keep: str = "", columns: bool = True) -> dict[str, int]:
    """Forget what runs that failed have left: branches, tables, columns.

    Args:
        lake: sessions on the warehouse.
        keep: a branch that stays, with its tables and columns.
        columns: whether columns may have been left even where no branch was.

    Returns:
        Table -> snapshot that readers see.
    """
    heads = lake.heads(lake.tables())
    stale: dict[str, list[str]] = {}
    for table, refs in heads.items():
        if MAIN not in refs and keep not in refs:
            # No publish ever had it, and readers see it empty.
            lake.rows(restore(table, None))
            continue
        stale[table] = [
            name
            for name in refs
            if (name.startswith(BRANCH_PREFIX) or name == BY_HAND) and name != keep
        ]
    columns = columns or any(stale.values())
    # One at a time of each table: two commits to it would be in each other's way.
    while any(stale.values()):
        lake.each(drop_branch(t, names.pop()) for t, names in stale.items() if names)
    if columns and not keep:
        hide_new_columns(lake, _shown(heads))
    return _shown(heads)


def hide_new_columns(lake: Lake, shown: Mapping[str, int] | None = None) -> None:
    """Take from sight the columns that the shown snapshot of a table has not.

    Iceberg adds a column to a table at once, whatever the branch. A snapshot knows
    the columns of its own time, so `version as of` still shows them.
    """
    added = lake.columns_since(shown_snapshots(lake) if shown is None else shown)
    lake.each(drop_columns(table, names) for table, names in added.items())
    for table, names in added.items():
        say(f"Columns of no publish are gone: {table} ({', '.join(names)})")


def _intend(ledger: Journal, entry: Entry) -> None:
    """Write down what is to move; where that fails, it may still have been written."""
    try:
        ledger.intend(entry)
    except DataError as error:
        raise ServiceError(
            f"{entry.what} has not begun, its journal cannot be written: {error.args[0]}",
            "mend what is named, then run `ecom publish` or `ecom rollback` again",
        ) from error


def _carry_out(
    lake: Lake,
    entry: Entry,
    heads: Mapping[str, Mapping[str, int]],
    leftovers: Sequence[str] = (),
) -> float:
    """Move every table that has not moved yet, or give all back; safe to repeat.

    Args:
        lake: sessions on the warehouse.
        entry: what moves; the journal has it, and gets what became of it.
        heads: its tables' branches as they are now.
        leftovers: statements to run once all is done.

    Returns:
        Seconds in which a reader could see some moved and some not.

    Raises:
        DataError: a table could not move; readers have what they had before.
        ServiceError: nor could all go back.
    """
    ledger = Journal(lake)
    try:
        window = _move(lake, entry, heads)
    except DataError as error:
        _undo(lake, entry, error)
        ledger.record(entry, journal.UNDONE)
        raise DataError(
            f"Undone: {entry.what}: {error.args[0]}; readers see what they saw before",
            "run `ecom run` to build anew",
        ) from error
    done = journal.PUBLISHED if entry.branch else journal.ROLLED_BACK
    try:
        lake.each([ledger.recording(entry, done), *leftovers])
    except DataError as error:
        # All have moved: whatever is missing, the next command finds and does.
        say(f"Left for the next command: {error.args[0]}")
    return window


def _move(lake: Lake, entry: Entry, heads: Mapping[str, Mapping[str, int]]) -> float:
    waiting = {
        move.table: fast_forward(move.table, entry.branch)
        if entry.branch
        else restore(move.table, move.after)
        for move in entry.changes
        if heads[move.table].get(MAIN) != move.after
    }
    dropped = {m.table for m in entry.changes if m.after is None}
    seen = [t for t in waiting if _is_read(lake, t) and t not in dropped]
    lake.each(waiting[t] for t in waiting if t not in seen and t not in dropped)
    began = time.monotonic()
    lake.each(waiting[table] for table in seen)
    window = round(time.monotonic() - began, 2) if len(seen) > 1 else 0.0
    if not entry.branch:
        _take_away(lake, entry, [waiting[table] for table in dropped])
    return window


def _take_away(lake: Lake, entry: Entry, drops: Sequence[str]) -> None:
    """End a rollback by what cannot be taken back itself: dropped tables and columns."""
    kept = {m.table: m.after for m in entry.changes if m.after is not None}
    try:
        lake.each(drops)
        hide_new_columns(lake, kept)
    except DataError as error:
        raise ServiceError(
            f"{entry.what} is almost done: {error.args[0]}",
            "mend what is named; the next command of this home completes it",
        ) from error


def _undo(lake: Lake, entry: Entry, reason: DataError) -> None:
    """Give back what readers had, where it has moved; what others wrote stays."""
    try:
        heads = lake.heads([move.table for move in entry.changes])
        lake.each(
            restore(move.table, move.before)
            for move in entry.changes
            if heads[move.table].get(MAIN) == move.after
        )
    except DataError as error:
        raise ServiceError(
            f"{entry.what} could be neither completed ({reason.args[0]}) nor undone "
            f"({error.args[0]}): readers may see tables mixed",
            "mend what is named, then say the same command again: it completes or undoes it",
        ) from error


def _shown(heads: Mapping[str, Mapping[str, int]]) -> dict[str, int]:
    return {table: refs[MAIN] for table, refs in heads.items() if MAIN in refs}


def _restored(lake: Lake) -> tuple[str, str]:
    """What a table's name begins with where a rollback gives it back."""
    return f"{lake.schema('core')}.", f"{lake.schema('marts')}."


def _is_read(lake: Lake, table: str) -> bool:
    """Whether readers look at a table: not the build's own state and snapshots."""
    return table.startswith(_restored(lake)) and not table.endswith(".build_state")
