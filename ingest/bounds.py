"""Watermark arithmetic: from where the next read must begin so that nothing is lost.

A row stamped with its transaction's start becomes visible only at commit. What a
snapshot may lack is therefore stamped at or after the start of some transaction that
was still open when the snapshot was taken. The *horizon* is the least such start,
asked for BEFORE the snapshot: a transaction that commits in between is then in the
snapshot, and one that begins in between starts after the question.

Where starts are not known (a prepared transaction, a standby, no right to see other
sessions, a cursor that is a number) the bound waits at a *candidate*: the bound of an
earlier read, which is taken once every transaction that was open then has ended.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta

PUBLISH_MARGIN = timedelta(seconds=5)
"""A backend reads its clock a moment before other sessions can see its start; a clock
that is set back by less than this loses nothing either."""

ZONE_MARGIN = timedelta(hours=12)
"""How far a local time can be behind UTC: for cursors without a time zone."""

Bound = datetime | int


@dataclass(frozen=True)
class Horizon:
    """What PostgreSQL knew just before a snapshot was taken, and the snapshot itself.

    Attributes:
        asked_at: the server's clock when it was asked.
        oldest_open: start of the oldest transaction then open, or None.
        prepared: how many prepared transactions were pending; their start is
            not known to anyone.
        complete: whether all sessions could be seen.
        snapshot_xmin: transactions below this id had ended.
        snapshot_xmax: the snapshot's upper transaction id, which only grows.
        system: identifies cluster and database, or "" where that may not be read.
        timeline: grows with each fail-over and point-in-time recovery; 0 where
            it may not be read.
        in_recovery: whether the server is a standby, which cannot see the
            transactions open on its primary.
    """

    asked_at: datetime
    oldest_open: datetime | None
    prepared: int
    complete: bool
    snapshot_xmin: int
    snapshot_xmax: int
    system: str
    timeline: int
    in_recovery: bool


@dataclass(frozen=True)
class Candidate:
    """A bound that may be taken once all transactions open at `asked_at` have ended.

    Attributes:
        bound: the cursor value.
        asked_at: the server's clock just before the snapshot it belongs to.
        xmax: the upper transaction id of that snapshot.
    """

    bound: Bound
    asked_at: datetime
    xmax: int


@dataclass(frozen=True)
class Watermark:
    """What a table's own commit remembers of its last read.

    Attributes:
        lower: the next read takes rows whose cursor is at or after this; None
            means all rows.
        batch: id of the batch that wrote it.
        loaded_at: time of that batch, UTC.
        snapshot_xmax: transaction id reached, to notice a source that went back.
        system: the cluster and database it was read from.
        timeline: the cluster's timeline then.
        candidate: what `lower` may become; see `Candidate`.
        shape: digest of the table's columns as they were.
        storage: oid -> file node of the table and its partitions: a table that was
            truncated, rewritten or made again has other ones.
    """

    lower: Bound | None
    batch: str
    loaded_at: datetime
    snapshot_xmax: int
    system: str
    timeline: int = 0
    candidate: Candidate | None = None
    shape: str = ""
    storage: Mapping[str, int] = field(default_factory=dict)

    def to_json(self) -> str:
        """As stored in the Iceberg snapshot's summary."""
        return json.dumps(asdict(self), default=datetime.isoformat)

    @classmethod
    def from_json(cls, text: str) -> Watermark:
        """Read back what `to_json` wrote."""
        found = json.loads(text)
        waiting = found.get("candidate")
        return cls(
            lower=_bound(found["lower"]),
            batch=found["batch"],
            loaded_at=datetime.fromisoformat(found["loaded_at"]),
            snapshot_xmax=int(found["snapshot_xmax"]),
            system=found["system"],
            timeline=int(found.get("timeline", 0)),
            candidate=Candidate(
                _bound(waiting["bound"]) or 0,
                datetime.fromisoformat(waiting["asked_at"]),
                int(waiting["xmax"]),
            )
            if waiting
            else None,
            shape=found.get("shape", ""),
            storage=found.get("storage", {}),
        )


def _bound(stored: str | int | None) -> Bound | None:
    return datetime.fromisoformat(stored) if isinstance(stored, str) else stored


def next_lower(
    horizon: Horizon,
    lower: Bound | None,
    candidate: Candidate | None,
    lookback: timedelta,
    margin: timedelta = timedelta(),
) -> tuple[Bound | None, Candidate | None]:
    """The lower bound of the read after this one, for a cursor that is a time.

    Args:
        horizon: asked for before this read's snapshot.
        lower: this read's own lower bound; None where it read everything.
        candidate: the last watermark's.
        lookback: how long before its first write a transaction may have begun,
            where the horizon is not complete.
        margin: how long before its transaction's begin a row may be stamped, by a
            clock that is not the server's.

    Returns:
        The bound, never below `lower`, and the candidate to remember.
    """
    if horizon.complete:
        seen = min(horizon.asked_at, horizon.oldest_open or horizon.asked_at)
        seen -= max(PUBLISH_MARGIN, margin)
        settled = not horizon.prepared
    else:
        seen = horizon.asked_at - lookback
        settled = horizon.snapshot_xmin == horizon.snapshot_xmax
    if settled:
        return _later(seen, lower), None
    now = Candidate(seen, horizon.asked_at, horizon.snapshot_xmax)
    if candidate and horizon.snapshot_xmin >= candidate.xmax:
        return _later(candidate.bound, lower), now
    return lower, candidate or now


def next_number(
    horizon: Horizon,
    lower: Bound | None,
    reached: int | None,
    candidate: Candidate | None,
    lookback: timedelta,
) -> tuple[Bound | None, Candidate | None]:
    """The same for a cursor that is a number, handed out in order by the source.

    Args:
        horizon: asked for before this read's snapshot.
        lower: this read's own lower bound; None where it read everything.
        reached: the greatest value seen before the horizon was asked for; None for
            no rows.
        candidate: the last watermark's.
        lookback: as for `next_lower`.
    """
    if reached is None:
        return lower, candidate
    if horizon.complete and not horizon.prepared and horizon.oldest_open is None:
        return _later(reached, lower), None
    now = Candidate(reached, horizon.asked_at, horizon.snapshot_xmax)
    if candidate and _all_ended(horizon, candidate, lookback):
        return _later(candidate.bound, lower), now
    return lower, candidate or now


def _all_ended(horizon: Horizon, candidate: Candidate, lookback: timedelta) -> bool:
    """Whether every transaction open at the candidate's moment has ended."""
    if horizon.prepared or horizon.snapshot_xmin < candidate.xmax:
        return False
    if horizon.complete:
        opened = horizon.oldest_open or horizon.asked_at
        return opened - PUBLISH_MARGIN > candidate.asked_at
    return horizon.asked_at - lookback >= candidate.asked_at


def _later(bound: Bound, lower: Bound | None) -> Bound:
    if isinstance(bound, datetime) and isinstance(lower, datetime):
        return max(bound, lower)
    if isinstance(bound, int) and isinstance(lower, int):
        return max(bound, lower)
    return bound


def went_back(horizon: Horizon, watermark: Watermark) -> str | None:
    """Why the source looks older than what was read from it, or None."""
    if watermark.system and horizon.system and watermark.system != horizon.system:
        return "it is another PostgreSQL cluster or database than the one read before"
    if 0 < watermark.timeline != horizon.timeline > 0:
        return (
            f"its timeline is {horizon.timeline}, {watermark.timeline} was read "
            "before: it was restored, or a standby took over"
        )
    if horizon.snapshot_xmax < watermark.snapshot_xmax:
        return (
            f"its transaction counter is {horizon.snapshot_xmax}, "
            f"{watermark.snapshot_xmax} was already read"
        )
    if isinstance(watermark.lower, datetime) and horizon.asked_at < watermark.lower:
        return f"its clock says {horizon.asked_at}, {watermark.lower} was already read"
    return None
