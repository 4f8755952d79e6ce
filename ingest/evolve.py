"""How a staging table follows its source's columns: add, widen, keep, refuse."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from common.errors import UsageError
from ingest.statements import CDC_COLUMNS, tick

WIDENINGS = {("int", "bigint"), ("float", "double")}
DECIMAL = re.compile(r"decimal\((\d+),(\d+)\)")


@dataclass
class Evolution:
    """What to do with one table.

    Attributes:
        actions: clauses of ALTER TABLE, in order.
        notes: what the user should know, one for each change.
        kept: columns the source no longer has, with their types.
    """

    actions: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    kept: dict[str, str] = field(default_factory=dict)


def evolve(
    table: str, present: Mapping[str, str], wanted: Sequence[tuple[str, str]]
) -> Evolution:
    """The way from the columns a staging table has to those its source has now.

    Args:
        table: for messages.
        present: column -> Spark type in staging.
        wanted: (column, Spark type) as mapped from the source.

    Raises:
        UsageError: a type changed to one that does not hold the old values; names
            the column and both types, before anything is altered.
    """
    found = Evolution()
    # Spark finds a column whatever its case.
    by_lower = {name.lower(): (name, kind) for name, kind in present.items()}
    for name, kind in wanted:
        old_name, old = by_lower.pop(name.lower(), (name, None))
        if old is None:
            found.actions.append(f"ADD COLUMN {tick(name)} {kind}")
            found.notes.append(f"column {name} {kind} added")
            continue
        if old_name != name:
            found.actions.append(f"RENAME COLUMN {tick(old_name)} TO {tick(name)}")
            found.notes.append(f"column {old_name} renamed to {name}")
        if old == kind:
            continue
        if not widens(old, kind):
            raise UsageError(
                f"Ingesting {table}: {table}.{name} was {old} in staging and is now "
                f"{kind} in the source: not a widening",
                "override the type in the manifest's `columns`, or drop the staging "
                "table and ingest it anew",
            )
        found.actions.append(f"ALTER COLUMN {tick(name)} TYPE {kind}")
        found.notes.append(f"column {name} widened from {old} to {kind}")
    ours = {name for name, _ in CDC_COLUMNS}
    found.kept = {n: kind for n, kind in by_lower.values() if n not in ours}
    if found.kept:
        found.notes.append(f"no longer in the source, kept: {', '.join(found.kept)}")
    return found


def widens(old: str, new: str) -> bool:
    """Whether Iceberg can make a column of type `old` one of type `new` in place."""
    if (old, new) in WIDENINGS:
        return True
    was, now = DECIMAL.fullmatch(old), DECIMAL.fullmatch(new)
    if not was or not now:
        return False
    return was[2] == now[2] and int(now[1]) >= int(was[1])
