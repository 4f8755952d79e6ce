"""A run of ingest: plan every table at one snapshot, land each, record it."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from common.errors import DataError, EcomError
from common.progress import say
from ingest import statements as st
from ingest.bounds import Horizon, Watermark, next_lower, went_back
from ingest.engine import end_leftovers, open_engine, read_watermarks
from ingest.land import Lander, TablePlan, TableResult
from ingest.manifest import Manifest, TableSpec
from ingest.postgres import JdbcAddress, SourceSession, jdbc_address, open_source
from ingest.split import Split, distinct_columns, split_for
from ingest.types import map_column

DEFAULT_MANIFEST = Path(__file__).with_name("tables.yml")
PARALLEL_TABLES = 3
OPS = "ops"
RUNS_COLUMNS = [
    ("run_id", "string"), ("table_name", "string"), ("started_at", "timestamp"),
    ("finished_at", "timestamp"), ("status", "string"), ("rows_read", "bigint"),
    ("rows_inserted", "bigint"), ("rows_updated", "bigint"), ("rows_deleted", "bigint"),
    ("rows_rejected", "bigint"), ("bytes_written", "bigint"), ("seconds", "double"),
    ("watermark", "string"), ("notes", "string"),
]  # fmt: skip


@dataclass(frozen=True)
class Endpoints:
    """Where a run reads and writes; the DSN holds a password.

    Attributes:
        source_dsn: a `postgresql://` URL.
        engine_url: a Spark Connect URL.
        ledger: folder of the sessions open on the engine.
    """

    source_dsn: str
    engine_url: str
    ledger: Path


def ingest(
    endpoints: Endpoints, manifest: Manifest, names: Sequence[str], full: bool = False
) -> list[TableResult]:
    """Bring tables up to date in staging.

    Args:
        endpoints: source and engine.
        manifest: what is ingested and how.
        names: the tables to ingest; none means all.
        full: read every row anew instead of what changed.

    Raises:
        UsageError: the manifest does not fit the source; nothing has moved.
        DataError: the source went back in time, or a table failed.
        ServiceError: source or engine do not answer.
    """
    address = jdbc_address(endpoints.source_dsn)
    target = f"{endpoints.engine_url}/{manifest.target_schema}"
    with (
        open_source(endpoints.source_dsn, target) as source,
        open_engine(endpoints.engine_url, "plan") as session,
    ):
        end_leftovers(endpoints.engine_url, endpoints.ledger)
        plans = make_plans(
            source, session, manifest, manifest.select(list(names)), full
        )
        _make_namespaces(session, manifest.target_schema)
        results = _land_all(endpoints, source, address, manifest, plans)
        _record(session, plans, results)
        failed = [r for r in results if isinstance(r, _Failure)]
        if failed:
            raise failed[0].error
        return [r for r in results if isinstance(r, TableResult)]


def make_plans(
    source: SourceSession,
    session: Any,
    manifest: Manifest,
    specs: Sequence[TableSpec],
    full: bool,
) -> list[TablePlan]:
    """What a run would do; reads catalogues only, moves nothing."""
    tables = {s.name: source.describe(manifest.source_schema, s) for s in specs}
    marks = known_watermarks(session, manifest.target_schema, specs)
    horizon = source.horizon()
    _warn(horizon, specs)
    batch = f"{horizon.asked_at:%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:8]}"
    plans = []
    for spec in specs:
        mark = marks.get(spec.name)
        reason = went_back(horizon, mark) if mark else None
        if reason and not full:
            raise DataError(
                f"Ingesting {spec.name}: the source went back in time: {reason}",
                "after a restore or fail-over, run `ecom ingest --full` to compare all rows",
            )
        mappings = tuple(
            map_column(c, spec.columns.get(c.name)) for c in tables[spec.name].columns
        )
        everything = mark is None or full or spec.mode == "full"
        lower = None if everything or mark is None else mark.lower
        loaded_at = datetime.now(timezone.utc)
        if mark is not None:
            loaded_at = max(loaded_at, mark.loaded_at + timedelta(microseconds=1))
        rows = tables[spec.name].estimated_rows
        split = Split()
        if lower is None:
            split = split_for(
                source,
                manifest.source_schema,
                spec,
                tables[spec.name].storage,
                mappings,
            )
        plans.append(
            TablePlan(
                spec=spec,
                mappings=mappings,
                relation=relation(manifest.target_schema, spec.target),
                lower=lower,
                first=mark is None,
                watermark=Watermark(
                    next_lower(horizon, lower, timedelta(seconds=spec.lookback_seconds)),
                    batch, loaded_at, horizon.snapshot_xmax, horizon.system,
                ),
                estimated_rows=rows,
                rebase=reason is not None,
                query=st.select_rows(
                    manifest.source_schema, spec.name, mappings,
                    st.window(spec.cursor, lower), split.by_page,
                ),
                split=split,
                distinct=distinct_columns(source, manifest.source_schema, spec, rows)
                if mark is None else (),
            )
        )  # fmt: skip
    return plans


def folders(manifest: Manifest, names: Sequence[str]) -> list[str]:
    """The folders of the warehouse that a run writes to, whether there yet or not."""
    schema = f"{manifest.target_schema}.db"
    return [f"{OPS}.db", schema] + [
        f"{schema}/{spec.target}/{part}"
        for spec in manifest.select(list(names))
        for part in ("data", "metadata")
    ]


def relation(schema: str, table: str) -> str:
    """A staging table's quoted name."""
    return f"{st.tick(schema)}.{st.tick(table)}"


def known_watermarks(
    session: Any, schema: str, specs: Sequence[TableSpec]
) -> dict[str, Watermark]:
    """Watermarks of the tables that have been landed, by source table name."""
    if not session.catalog.databaseExists(schema):
        return {}
    rows = session.sql(f"SHOW TABLES IN {st.tick(schema)}").collect()
    present = {row.tableName.lower() for row in rows}
    known = {
        s.name: relation(schema, s.target) for s in specs if s.target.lower() in present
    }
    return read_watermarks(session, known)


def _warn(horizon: Horizon, specs: Sequence[TableSpec]) -> None:
    if horizon.complete:
        return
    why = (
        "a standby cannot see the transactions open on its primary"
        if horizon.in_recovery
        else "the ingest user lacks pg_read_all_stats"
    )
    lookbacks = sorted({f"{spec.lookback_seconds} s" for spec in specs})
    say(
        f"WARNING: PostgreSQL's horizon of open transactions is not known: {why}.\n"
        f"  Each read goes back {' or '.join(lookbacks)} (lookback_seconds) instead; "
        "a transaction open for longer may be missed until `ecom reconcile` finds it.\n"
        "  Next: GRANT pg_read_all_stats to the ingest user, or read from the primary."
    )


def _make_namespaces(session: Any, schema: str) -> None:
    for name in (schema, OPS):
        if not session.catalog.databaseExists(name):
            session.sql(f"CREATE NAMESPACE IF NOT EXISTS {st.tick(name)}").collect()
    session.sql(
        st.create_table(
            f"{OPS}.ingest_runs",
            RUNS_COLUMNS,
            None,
            "One row per table of each ingest run",
        )
    ).collect()


@dataclass(frozen=True)
class _Failure:
    table: str
    error: Exception
    seconds: float


def _land_all(
    endpoints: Endpoints,
    source: SourceSession,
    address: JdbcAddress,
    manifest: Manifest,
    plans: Sequence[TablePlan],
) -> list[TableResult | _Failure]:
    def one(plan: TablePlan) -> TableResult | _Failure:
        began = time.monotonic()
        name = plan.spec.name
        how = (
            "all rows"
            if plan.lower is None
            else f"changes since {plan.lower:%Y-%m-%d %H:%M:%S}"
        )
        say(f"Ingesting {name}: {how}")
        try:
            with open_engine(endpoints.engine_url, name, endpoints.ledger) as session:
                return Lander(
                    session, source, address, manifest.source_schema, plan
                ).land()
        except Exception as error:
            failure = (
                error
                if isinstance(error, EcomError)
                else DataError(
                    f"Ingesting {name}: {_first_line(error)}",
                    "mend the cause and run again; nothing of this table's batch was committed",
                )
            )
            return _Failure(name, failure, time.monotonic() - began)

    with ThreadPoolExecutor(PARALLEL_TABLES) as pool:
        return list(pool.map(one, plans))


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:500]


def _record(
    session: Any, plans: Sequence[TablePlan], results: Sequence[TableResult | _Failure]
) -> None:
    """One row per table into `ops.ingest_runs`, in one commit."""
    rows = []
    for plan, result in zip(plans, results):
        finished = datetime.now(timezone.utc)
        started = finished - timedelta(seconds=result.seconds)
        counts = ["0"] * 6
        status, mark, notes = "failed", "NULL", ""
        if isinstance(result, TableResult):
            status = "success"
            counts = [str(value) for value in (
                result.rows_read, result.rows_inserted, result.rows_updated,
                result.rows_deleted, result.rows_rejected, result.bytes_written,
            )]  # fmt: skip
            mark = st.spark_literal(result.watermark) if result.watermark else "NULL"
            notes = "; ".join(result.notes)
        else:
            notes = str(result.error).splitlines()[0]
        rows.append(
            f"({st.spark_literal(plan.watermark.batch)}, {st.spark_literal(plan.spec.name)}, "
            f"{st.spark_timestamp(started)}, {st.spark_timestamp(finished)}, "
            f"'{status}', {', '.join(counts)}, cast({result.seconds} AS double), {mark}, "
            f"{st.spark_literal(notes)})"
        )
    session.sql(f"INSERT INTO {OPS}.ingest_runs VALUES {', '.join(rows)}").collect()


def plan(
    endpoints: Endpoints, manifest: Manifest, names: Sequence[str], full: bool = False
) -> list[TablePlan]:
    """The plan of a run, without running it; same errors as `ingest`."""
    target = f"{endpoints.engine_url}/{manifest.target_schema}"
    with (
        open_source(endpoints.source_dsn, target) as source,
        open_engine(endpoints.engine_url, "plan") as session,
    ):
        return make_plans(source, session, manifest, manifest.select(list(names)), full)
