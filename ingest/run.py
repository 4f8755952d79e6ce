"""A run of ingest: plan every table at one snapshot, land each, record it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from urllib.parse import quote

from common.errors import DataError, EcomError, ServiceError
from common.progress import task
from ingest import statements as st
from ingest.engine import Reading, end_leftovers, open_engine
from ingest.land import Lander, TableResult
from ingest.manifest import Manifest
from ingest.plan import TablePlan, make_plans, parallel_tables
from ingest.postgres import JdbcAddress, SourceSession, jdbc_address, open_source
from ingest.remembered import Remembered

DEFAULT_MANIFEST = Path(__file__).with_name("tables.yml")
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
        DataError: the source went back in time.
        TablesError: some tables failed; the others have landed.
        ServiceError: source or engine do not answer.
    """
    address = jdbc_address(endpoints.source_dsn)
    target = f"{endpoints.engine_url}/{manifest.target_schema}"
    with (
        open_source(endpoints.source_dsn, target) as source,
        open_engine(endpoints.engine_url, "plan") as session,
    ):
        end_leftovers(endpoints.engine_url, _ledger(endpoints, manifest))
        plans = make_plans(
            source, session, manifest, manifest.select(list(names)), full
        )
        _make_namespaces(session, manifest)
        results = _land_all(endpoints, source, address, manifest, plans)
        failed = [r.error for r in results if isinstance(r, _Failure)]
        landed = [r for r in results if isinstance(r, TableResult)]
        try:
            _record(session, manifest.ops_schema, plans, results)
        except Exception:
            # With the engine gone the tables' own errors say more.
            if not failed:
                raise
        if failed:
            raise TablesError(failed, landed)
        return landed


class TablesError(EcomError):
    """Some tables failed; each table's batch is committed whole or not at all.

    Attributes:
        results: the tables that landed.
        exit_code: the first failure's.
    """

    def __init__(
        self, errors: Sequence[EcomError], results: Sequence[TableResult]
    ) -> None:
        first, *others = errors
        message = str(first.args[0]) + "".join(f"\nError: {one}" for one in others)
        super().__init__(message, first.fix)
        self.exit_code = first.exit_code
        self.results = list(results)
        self.details = {"tables": [asdict(one) for one in results]}


def folders(manifest: Manifest, names: Sequence[str]) -> list[str]:
    """The folders of the warehouse that a run writes to, whether there yet or not."""
    schema = f"{manifest.target_schema}.db"
    return [f"{manifest.ops_schema}.db", schema] + [
        f"{schema}/{spec.target}/{part}"
        for spec in manifest.select(list(names))
        for part in ("data", "metadata")
    ]


def _ledger(endpoints: Endpoints, manifest: Manifest) -> Path:
    """Sessions of one target only: another target's run may be alive."""
    return endpoints.ledger / quote(manifest.target_schema, safe="")


def _make_namespaces(session: Any, manifest: Manifest) -> None:
    for name in (manifest.target_schema, manifest.ops_schema):
        if not session.catalog.databaseExists(name):
            session.sql(f"CREATE NAMESPACE IF NOT EXISTS {st.tick(name)}").collect()
    if session.catalog.tableExists(f"{manifest.ops_schema}.ingest_runs"):
        return
    session.sql(
        st.create_table(
            f"{manifest.ops_schema}.ingest_runs",
            RUNS_COLUMNS,
            None,
            "One row per table of each ingest run",
        )
    ).collect()


@dataclass(frozen=True)
class _Failure:
    table: str
    error: EcomError
    seconds: float


def _land_all(
    endpoints: Endpoints,
    source: SourceSession,
    address: JdbcAddress,
    manifest: Manifest,
    plans: Sequence[TablePlan],
) -> list[TableResult | _Failure]:
    ledger = _ledger(endpoints, manifest)
    counts = endpoints.ledger.with_name("ingest_counts")

    def one(plan: TablePlan) -> TableResult | _Failure:
        began = time.monotonic()
        name = plan.spec.name
        since = str(plan.lower)[:19]
        how = "all rows" if plan.lower is None else f"changes since {since}"
        try:
            with task(f"Ingesting {name}: {how}") as shown, ExitStack() as opened:
                reading = Reading(shown)
                engine = open_engine(endpoints.engine_url, name, ledger, reading)
                return Lander(
                    lambda: opened.enter_context(engine), source, address,
                    manifest.source_schema, plan,
                    Remembered(counts / f"{quote(plan.relation, safe='')}.json"),
                    reading,
                ).land()  # fmt: skip
        except Exception as error:
            seconds = time.monotonic() - began
            return _Failure(name, _explain(name, error, source), seconds)

    with ThreadPoolExecutor(parallel_tables(manifest)) as pool:
        return list(pool.map(one, plans))


def _explain(name: str, error: Exception, source: SourceSession) -> EcomError:
    """A failure by how to recover from it."""
    if isinstance(error, EcomError):
        return error
    if not source.answers():
        return ServiceError(
            f"Ingesting {name}: the source closed the connection: {_first_line(error)}",
            "see that PostgreSQL runs (`ecom status`), then run again",
        )
    return DataError(
        f"Ingesting {name}: {_first_line(error)}",
        "mend the cause and run again; nothing of this table's batch was committed",
    )


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:500]


def _record(
    session: Any,
    ops: str,
    plans: Sequence[TablePlan],
    results: Sequence[TableResult | _Failure],
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
    session.sql(f"INSERT INTO {ops}.ingest_runs VALUES {', '.join(rows)}").collect()


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
