"""What a run will do with each table, decided before anything moves."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any

from common.errors import DataError
from common.progress import say
from ingest import statements as st
from ingest.bounds import (
    Bound,
    Candidate,
    Horizon,
    Watermark,
    next_lower,
    next_number,
    went_back,
)
from ingest.catalogue import SourceTable
from ingest.engine import Landed, read_landed
from ingest.manifest import Manifest, TableSpec
from ingest.postgres import SourceSession
from ingest.split import Split, distinct_columns, split_for
from ingest.types import WHOLE, Mapping

OLD_TRANSACTION = timedelta(minutes=15)


@dataclass
class TablePlan:
    """What one run does with one table.

    Attributes:
        spec: the manifest's entry.
        mappings: how each column travels.
        relation: the staging table, quoted.
        lower: cursor bound of this read; None reads everything.
        window: the source rows this read takes, as a condition.
        first: whether staging holds no row of the table.
        complete: whether the read brings every row, so that a staged row that it
            does not bring is gone from the source.
        watermark: what the commit will remember.
        landed_until: `_cdc_loaded_at` of the last commit, or None where unknown.
        remark: the watermark must be committed even where no row differs.
        estimated_rows: PostgreSQL's own estimate of the whole table.
        query: the SELECT sent to the source.
        split: how the read is divided.
        distinct: columns in which most rows differ.
        notes: what the user should know.
    """

    spec: TableSpec
    mappings: tuple[Mapping, ...]
    relation: str
    lower: Bound | None
    window: str
    first: bool
    complete: bool
    watermark: Watermark
    landed_until: datetime | None
    remark: bool
    estimated_rows: int
    query: str
    split: Split = field(default_factory=Split)
    distinct: tuple[str, ...] = ()
    notes: list[str] = field(default_factory=list)


def make_plans(
    source: SourceSession,
    session: Any,
    manifest: Manifest,
    specs: Sequence[TableSpec],
    full: bool,
) -> list[TablePlan]:
    """What a run would do; reads catalogues only, moves nothing.

    Raises:
        UsageError: the manifest does not fit the source.
        DataError: the source went back in time.
    """
    schema = manifest.source_schema
    tables = {spec.name: source.describe(schema, spec) for spec in specs}
    landed = known_tables(session, manifest.target_schema, specs)
    # Before the horizon: a number handed out later belongs to a later transaction.
    reached = {
        spec.name: source.greatest(schema, spec.name, str(spec.cursor))
        for spec in specs
        if tables[spec.name].cursor_type in WHOLE
    }
    horizon = source.horizon()
    _warn(horizon, specs)
    batch = f"{horizon.asked_at:%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:8]}"
    return [
        _plan_table(
            _Given(source, manifest, spec, tables[spec.name], landed.get(spec.name)),
            horizon, reached.get(spec.name), batch, full,
        )
        for spec in specs
    ]  # fmt: skip


@dataclass(frozen=True)
class _Given:
    source: SourceSession
    manifest: Manifest
    spec: TableSpec
    table: SourceTable
    landed: Landed | None


def _plan_table(
    given: _Given, horizon: Horizon, reached: int | None, batch: str, full: bool
) -> TablePlan:
    spec, table, schema = given.spec, given.table, given.manifest.source_schema
    mark = given.landed.watermark if given.landed else None
    reason = went_back(horizon, mark) if mark else None
    if reason and not full:
        raise DataError(
            f"Ingesting {spec.name}: the source went back in time: {reason}",
            "after a restore or fail-over, run `ecom ingest --full` to compare all "
            "rows; from a replica that lags behind, wait until it has caught up",
        )
    unseen = _unseen(table, mark)
    rewritten = len(unseen) == len(table.storage) > 0
    notes = list(table.notes)
    changed = mark is not None and mark.shape != table.shape
    if changed and not full:
        notes.append("its columns changed: all rows were compared")
    elif mark and rewritten and not full:
        notes.append("the table was rewritten or made anew: all rows were compared")
    everything = full or changed or spec.mode == "full" or mark is None
    everything = everything or rewritten
    lower = None if everything or mark is None else mark.lower
    window = st.window(spec.cursor, table.cursor_type, lower, unseen)
    loaded_at = datetime.now(timezone.utc)
    if mark is not None:
        loaded_at = max(loaded_at, mark.loaded_at + timedelta(microseconds=1))
    # A table made anew counts its numbers from the beginning again.
    trusted = mark and not reason and not (rewritten and table.cursor_type in WHOLE)
    following, candidate = _next(
        spec, table, horizon, reached, mark if trusted else None
    )
    watermark = Watermark(
        following, batch, loaded_at, horizon.snapshot_xmax, horizon.system,
        horizon.timeline, candidate, table.shape, table.storage,
    )  # fmt: skip
    first = given.landed is None or (mark is None and given.landed.rows == 0)
    split = split_for(given.source, schema, spec, table) if lower is None else Split()
    return TablePlan(
        spec=spec,
        mappings=table.mappings,
        relation=relation(given.manifest.target_schema, spec.target),
        lower=lower,
        window=window,
        first=first,
        complete=full or spec.mode == "full",
        watermark=watermark,
        landed_until=mark.loaded_at if mark else None,
        remark=_must_remark(given.landed, reason, changed or bool(unseen)),
        estimated_rows=table.estimated_rows,
        query=st.select_rows(schema, spec.name, table.mappings, window, split.by_page),
        split=split,
        distinct=distinct_columns(given.source, schema, spec, table.estimated_rows)
        if first
        else (),
        notes=notes,
    )


def _must_remark(landed: Landed | None, reason: str | None, changed: bool) -> bool:
    if landed is None or landed.watermark is None:
        return True
    return reason is not None or changed or not landed.newest


def _unseen(table: SourceTable, mark: Watermark | None) -> list[str]:
    """Partitions, or the table itself, whose storage was never read."""
    known = mark.storage if mark else {}
    return [oid for oid, node in table.storage.items() if known.get(oid) != node]


def _next(
    spec: TableSpec,
    table: SourceTable,
    horizon: Horizon,
    reached: int | None,
    mark: Watermark | None,
) -> tuple[Bound | None, Candidate | None]:
    """Where the next read begins; at the earliest where the last one did."""
    lookback = timedelta(seconds=spec.lookback_seconds)
    lower = mark.lower if mark else None
    candidate = mark.candidate if mark else None
    if spec.cursor is None:
        return None, None
    if table.cursor_type in WHOLE:
        return next_number(horizon, lower, reached, candidate, lookback)
    return next_lower(horizon, lower, candidate, lookback)


def relation(schema: str, table: str) -> str:
    """A staging table's quoted name."""
    return f"{st.tick(schema)}.{st.tick(table)}"


def known_tables(
    session: Any, schema: str, specs: Sequence[TableSpec]
) -> dict[str, Landed]:
    """What staging holds, by source table name, of tables that have been landed."""
    if not session.catalog.databaseExists(schema):
        return {}
    rows = session.sql(f"SHOW TABLES IN {st.tick(schema)}").collect()
    present = {row.tableName.lower() for row in rows}
    known = {
        s.name: relation(schema, s.target) for s in specs if s.target.lower() in present
    }
    return read_landed(session, known)


def _warn(horizon: Horizon, specs: Sequence[TableSpec]) -> None:
    if horizon.prepared:
        say(
            f"{horizon.prepared} prepared transactions are pending in the source; rows "
            "they may bring are read again until they end (see pg_prepared_xacts)"
        )
    opened = horizon.oldest_open
    if horizon.complete and opened and horizon.asked_at - opened > OLD_TRANSACTION:
        say(
            f"A transaction has been open in the source since {opened:%Y-%m-%d %H:%M:%S}; "
            "everything after it is read again until it ends (see pg_stat_activity)"
        )
    if horizon.complete:
        return
    why = (
        "a standby cannot see the transactions open on its primary"
        if horizon.in_recovery
        else "the ingest user lacks pg_read_all_stats, or track_activities is off"
    )
    lookbacks = sorted({f"{spec.lookback_seconds} s" for spec in specs})
    say(
        f"WARNING: PostgreSQL's horizon of open transactions is not known: {why}.\n"
        f"  Each read goes back {' or '.join(lookbacks)} (lookback_seconds) instead; a "
        "transaction that was open for longer before its first write may be missed "
        "until a sweep or `ecom reconcile` finds its rows.\n"
        "  Next: GRANT pg_read_all_stats to the ingest user, or read from the primary."
    )
