"""Watermark arithmetic: from where the next read must begin so that nothing is lost.

A row stamped with its transaction's start becomes visible only at commit. What a
snapshot may lack is therefore stamped at or after the start of some transaction that
was still open when the snapshot was taken. The *horizon* is the least such start,
asked for BEFORE the snapshot: a transaction that commits in between is then in the
snapshot, and one that begins in between starts after the question.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta

PUBLISH_MARGIN = timedelta(seconds=2)
"""A backend reads its clock a moment before other sessions can see its start."""


@dataclass(frozen=True)
class Horizon:
    """What PostgreSQL knew just before a snapshot was taken.

    Attributes:
        asked_at: the server's clock when it was asked.
        oldest_open: start of the oldest transaction then open, or None.
        prepared: how many prepared transactions were pending; their start is
            not known to anyone.
        complete: whether all sessions could be seen.
        snapshot_xmax: the snapshot's upper transaction id, which only grows.
        system: identifies the cluster, or "" where that may not be read.
        in_recovery: whether the server is a standby, which cannot see the
            transactions open on its primary.
    """

    asked_at: datetime
    oldest_open: datetime | None
    prepared: int
    complete: bool
    snapshot_xmax: int
    system: str
    in_recovery: bool


@dataclass(frozen=True)
class Watermark:
    """What a table's own commit remembers of its last read.

    Attributes:
        lower: the next read takes rows whose cursor is at or after this; None
            means all rows.
        batch: id of the batch that wrote it.
        loaded_at: time of that batch, UTC.
        snapshot_xmax: transaction id reached, to notice a source that went back.
        system: the cluster it was read from.
    """

    lower: datetime | None
    batch: str
    loaded_at: datetime
    snapshot_xmax: int
    system: str

    def to_json(self) -> str:
        """As stored in the Iceberg snapshot's summary."""
        return json.dumps(asdict(self), default=datetime.isoformat)

    @classmethod
    def from_json(cls, text: str) -> Watermark:
        """Read back what `to_json` wrote."""
        found = json.loads(text)
        lower = found["lower"]
        return cls(
            lower=datetime.fromisoformat(lower) if lower else None,
            batch=found["batch"],
            loaded_at=datetime.fromisoformat(found["loaded_at"]),
            snapshot_xmax=int(found["snapshot_xmax"]),
            system=found["system"],
        )


def next_lower(
    horizon: Horizon, previous: datetime | None, lookback: timedelta
) -> datetime | None:
    """The lower bound of the read after this one.

    A pending prepared transaction holds the bound where it was: it began after the
    previous horizon or was counted in it, so every row it will bring is at or after
    the previous bound.

    Args:
        horizon: asked for before this read's snapshot.
        previous: this read's own lower bound; None where it read everything.
        lookback: how far to go back where the horizon is not complete.
    """
    if horizon.prepared:
        return previous
    bound = horizon.asked_at - PUBLISH_MARGIN
    if horizon.oldest_open is not None:
        bound = min(bound, horizon.oldest_open - PUBLISH_MARGIN)
    if not horizon.complete:
        bound = min(bound, horizon.asked_at - lookback)
    return max(bound, previous) if previous is not None else bound


def went_back(horizon: Horizon, watermark: Watermark) -> str | None:
    """Why the source looks older than what was read from it, or None."""
    if watermark.system and horizon.system and watermark.system != horizon.system:
        return "it is another PostgreSQL cluster than the one read before"
    if horizon.snapshot_xmax < watermark.snapshot_xmax:
        return (
            f"its transaction counter is {horizon.snapshot_xmax}, "
            f"{watermark.snapshot_xmax} was already read"
        )
    if watermark.lower is not None and horizon.asked_at < watermark.lower:
        return f"its clock says {horizon.asked_at}, {watermark.lower} was already read"
    return None
