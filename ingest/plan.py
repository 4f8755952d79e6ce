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
from ingest.manifest import SIDES, Manifest, TableSpec
from ingest.postgres import SourceSession
from ingest.split import Split, bounded, distinct_columns, split_for
from ingest.types import WHOLE, Mapping

PARALLEL_TABLES = 3
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
        settled: staging's tables are as the last run left them: there is nothing to
            make, alter or clean up before rows are compared.
        landed: what staging holds of the table.
        rejected: rows in its rejects.
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
    settled: bool
    landed: Landed
    rejected: int
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
    staged = known_tables(session, manifest.target_schema, specs)
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
            _Given(source, manifest, spec, tables[spec.name], staged.get(spec.name)),
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
    staged: Staged | None


def _plan_table(
    given: _Given, horizon: Horizon, reached: int | None, batch: str, full: bool
) -> TablePlan:
    spec, table, schema = given.spec, given.table, given.manifest.source_schema
    staged = given.staged or Staged(Landed())
    mark = staged.table.watermark
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
    first = mark is None and staged.table.rows == 0
    split = split_for(given.source, schema, spec, table) if lower is None else Split()
    split = bounded(split, connections_of(given.manifest))
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
        remark=reason is not None or changed or bool(unseen) or not staged.table.newest,
        settled=mark is not None and not changed and staged.in_step,
        landed=staged.table,
        rejected=staged.rejects.rows if staged.rejects else 0,
        estimated_rows=table.estimated_rows,
        query=st.select_rows(schema, spec.name, table.mappings, window, split.by_page),
        split=split,
        distinct=distinct_columns(
            given.source, schema, spec, table.estimated_rows // split.partitions
        )
        if first
        else (),
        notes=notes,
    )


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
    lower = mark.lower if mark else None
    candidate = mark.candidate if mark else None
    if spec.cursor is None:
        return None, None
    if table.cursor_type in WHOLE:
        return next_number(horizon, lower, reached, candidate, spec.lookback)
    return next_lower(horizon, lower, candidate, spec.lookback, spec.margin)


def parallel_tables(manifest: Manifest) -> int:
    """How many tables are read at a time: each has a connection at least."""
    return min(PARALLEL_TABLES, manifest.connections or PARALLEL_TABLES)


def connections_of(manifest: Manifest) -> int | None:
    """How many connections each of the tables read at a time may have."""
    if manifest.connections is None:
        return None
    return manifest.connections // parallel_tables(manifest)


def relation(schema: str, table: str) -> str:
    """A staging table's quoted name."""
    return f"{st.tick(schema)}.{st.tick(table)}"


@dataclass(frozen=True)
class Staged:
    """A staging table and its side tables; None where there is none of the kind."""

    table: Landed
    rejects: Landed | None = None
    history: Landed | None = None

    @property
    def in_step(self) -> bool:
        """Whether no side table is missing or ahead of the table."""
        if self.rejects is None:
            return False
        ahead = self.history.made_at if self.history else None
        own = self.table.made_at
        return ahead is None or (own is not None and ahead <= own)


def known_tables(
    session: Any, schema: str, specs: Sequence[TableSpec]
) -> dict[str, Staged]:
    """What staging holds, by source table name, of tables that have been landed."""
    if not session.catalog.databaseExists(schema):
        return {}
    rows = session.sql(f"SHOW TABLES IN {st.tick(schema)}").collect()
    present = {row.tableName.lower() for row in rows}
    wanted = {
        spec.name: [
            relation(schema, name) if name.lower() in present else None
            for name in (spec.target, *(f"{spec.target}__{side}" for side in SIDES))
        ]
        for spec in specs
        if spec.target.lower() in present
    }
    landed = read_landed(
        session, [one for some in wanted.values() for one in some if one]
    )
    return {
        name: Staged(
            landed[str(table)],
            history=landed[history] if history else None,
            rejects=landed[rejects] if rejects else None,
        )
        for name, (table, history, rejects) in wanted.items()
    }


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
    lookbacks = sorted({f"{spec.lookback.total_seconds():.0f} s" for spec in specs})
    say(
        f"WARNING: PostgreSQL's horizon of open transactions is not known: {why}.\n"
        f"  Each read goes back {' or '.join(lookbacks)} (lookback_seconds) instead; a "
        "transaction that was open for longer before its first write may be missed "
        "until a sweep or `ecom reconcile` finds its rows.\n"
        "  Next: GRANT pg_read_all_stats to the ingest user, or read from the primary."
    )
