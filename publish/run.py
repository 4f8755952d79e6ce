"""The order of a run: ingest, build on a branch, test, publish, reconcile, show."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from common.errors import DataError
from common.progress import say
from common.settings import PROJECT, Settings
from publish import building, costs, journal
from publish.in_home import one_at_a_time, tested_file
from publish.journal import Journal, Move, Publish
from publish.lake import MAIN, SCHEMAS, Lake, drop_branch, open_lake
from stack.endpoints import connect_url, source_dsn
from stack.hdfs_access import demand_writable

BRANCH_PREFIX = "audit_"
SAMPLE_ROWS = 5


@dataclass
class RunReport:
    """What a run did: seconds per phase, and the counts worth a row in `ops.runs`."""

    run_id: str
    started_at: datetime
    result: str = "running"
    phases: dict[str, float] = field(default_factory=dict)
    rows_ingested: int = 0
    rows_rejected: int = 0
    tables_published: int = 0
    mixed_window_seconds: float = 0.0

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time one phase and say that it begins."""
        say(f"== {name}")
        began = time.monotonic()
        try:
            yield
        finally:
            self.phases[name] = round(time.monotonic() - began, 1)


def run(
    settings: Settings, full_refresh: bool, show: Callable[[RunReport], None]
) -> RunReport:
    """One safe run.

    Args:
        settings: where the stack is.
        full_refresh: rebuild core and marts from staging and snapshots.
        show: draws charts and site, once the tables are published.

    Raises:
        DataError: a model or test failed, or source and staging differ; readers
            see what they saw before (a failed reconcile comes after publishing).
        BusyError: another run of this home is under way.
    """
    now = datetime.now(timezone.utc)
    report = RunReport(f"{now:%Y%m%dt%H%M%S}_{uuid.uuid4().hex[:6]}", now)
    with one_at_a_time(settings), open_lake(settings) as lake:
        _check_folders(settings)
        Journal(lake).prepare()
        try:
            _phases(settings, lake, report, full_refresh, show)
            report.result = "success"
        except BaseException as error:
            report.result = "failed" if isinstance(error, Exception) else "interrupted"
            raise
        finally:
            _record(lake, report)
    return report


def _phases(
    settings: Settings,
    lake: Lake,
    report: RunReport,
    full_refresh: bool,
    show: Callable[[RunReport], None],
) -> None:
    journal.recover(lake, Journal(lake))
    _discard_branches(settings, lake)
    with report.phase("ingest"):
        _ingest(settings, report)
    branch = BRANCH_PREFIX + report.run_id
    with report.phase("build"):
        outcome = building.build(settings, branch, full_refresh)
        costs.add_spark_costs(settings, lake, report.started_at)
        if not outcome.succeeded:
            raise _build_error(lake, branch, outcome)
    tested_file(settings).write_text(json.dumps({"branch": branch}), encoding="utf-8")
    with report.phase("publish"):
        publish_branch(settings, lake, branch, report)
    with report.phase("reconcile"):
        _reconcile(settings)
    with report.phase("docs"):
        # The catalogue of what readers see, so not on the branch.
        building.dbt(
            settings, ["docs", "generate", "--static", "--target", "local"], {}
        )
    with report.phase("charts and site"):
        show(report)


def publish_branch(
    settings: Settings, lake: Lake, branch: str, report: RunReport
) -> None:
    """Make the tested branch what readers see, all tables in one short sequence."""
    heads = lake.heads(lake.tables())
    moves = tuple(
        Move(table, found.get(MAIN), found[branch])
        for table, found in heads.items()
        if branch in found and found[branch] != found.get(MAIN)
    )
    ledger = Journal(lake)
    if moves:
        publish = Publish(report.run_id, branch, moves)
        ledger.intend(publish)
        began = time.monotonic()
        journal.carry_out(lake, publish)
        report.mixed_window_seconds = round(time.monotonic() - began, 2)
        ledger.record(publish.id, "published")
    report.tables_published = len(moves)
    lake.each([drop_branch(t, branch) for t, found in heads.items() if branch in found])
    tested_file(settings).unlink(missing_ok=True)
    say(
        f"Published {len(moves)} tables; readers could see a mix for "
        f"{report.mixed_window_seconds:.2f} s"
    )


def publish_tested(settings: Settings) -> RunReport:
    """Publish the branch that was built and tested but not published yet.

    Raises:
        DataError: there is none.
    """
    now = datetime.now(timezone.utc)
    report = RunReport(f"{now:%Y%m%dt%H%M%S}_{uuid.uuid4().hex[:6]}", now)
    with one_at_a_time(settings), open_lake(settings) as lake:
        ledger = Journal(lake)
        ledger.prepare()
        journal.recover(lake, ledger)
        tested = tested_file(settings)
        if not tested.exists():
            raise DataError(
                "Publishing: no tested branch waits to be published",
                "run `ecom run`, which builds, tests and publishes",
            )
        branch = json.loads(tested.read_text(encoding="utf-8"))["branch"]
        publish_branch(settings, lake, branch, report)
    return report


def rollback(settings: Settings) -> Publish:
    """Take the last publish back in core and marts.

    Raises:
        DataError: there is no publish to take back.
    """
    with one_at_a_time(settings), open_lake(settings) as lake:
        ledger = Journal(lake)
        ledger.prepare()
        journal.recover(lake, ledger)
        return journal.roll_back(lake, ledger)


def _discard_branches(settings: Settings, lake: Lake) -> None:
    """Forget the branches of runs that failed; only one run writes at a time."""
    tested_file(settings).unlink(missing_ok=True)
    stale = [
        drop_branch(table, name)
        for table, found in lake.heads(lake.tables()).items()
        for name in found
        if name.startswith(BRANCH_PREFIX)
    ]
    lake.each(stale)


def ingest_endpoints(settings: Settings) -> Any:
    """Where ingest reads and writes (`ingest.run.Endpoints`)."""
    from ingest.run import Endpoints

    return Endpoints(
        source_dsn(settings, "ingest"),
        connect_url(settings),
        settings.home / "run" / "ingest_sessions",
    )


def _check_folders(settings: Settings) -> None:
    """Refuse before anything moves where the engine may not write."""
    from ingest import manifest, run

    staged = run.folders(manifest.load(run.DEFAULT_MANIFEST), [])
    built = [f"{schema}.db" for schema in SCHEMAS] if settings.target == "local" else []
    demand_writable(settings, [*staged, *built])


def _ingest(settings: Settings, report: RunReport) -> None:
    from ingest import manifest, run

    endpoints = ingest_endpoints(settings)
    for result in run.ingest(endpoints, manifest.load(run.DEFAULT_MANIFEST), []):
        report.rows_ingested += result.rows_inserted + result.rows_updated
        report.rows_rejected += result.rows_rejected
        say(
            f"  {result.table}: {result.rows_read:,} read, {result.rows_inserted:,} new, "
            f"{result.rows_updated:,} updated, {result.rows_deleted:,} deleted, "
            f"{result.rows_rejected:,} rejected, {result.seconds:.1f} s"
        )


def _reconcile(settings: Settings) -> None:
    from ingest import manifest, reconcile, run

    endpoints = ingest_endpoints(settings)
    found = reconcile.reconcile(endpoints, manifest.load(run.DEFAULT_MANIFEST), [])
    for one in found:
        say(f"  {one.describe()}")
    if any(not one.agrees for one in found):
        raise DataError(
            "Source and staging differ (the keys are named above); the tested tables "
            "are published",
            "run `ecom ingest --full`, then `ecom run`",
        )


def _build_error(lake: Lake, branch: str, outcome: building.BuildOutcome) -> DataError:
    lines = []
    for failure in outcome.failures:
        name = failure["unique_id"].split(".", 2)[-1]
        message = " ".join(str(failure.get("message") or "").split())[:300]
        lines.append(f"  {name}: {message}")
        if failure["status"] == "fail" and failure.get("compiled_code"):
            lines += _samples(lake, branch, failure["compiled_code"])
    return DataError(
        "The build failed, nothing was published:\n" + "\n".join(lines),
        f"mend what is named and run again; branch {branch} stays for inspection until then",
    )


def _samples(lake: Lake, branch: str, query: str) -> list[str]:
    """A few of a failed test's rows, read from the branch."""
    try:
        lake.rows(f"SET spark.wap.branch={branch}")
        rows = lake.rows(
            f"SELECT * FROM ({query.strip().rstrip(';')}) LIMIT {SAMPLE_ROWS}"
        )
    except DataError as error:
        return [f"    (its rows cannot be shown: {str(error).splitlines()[0]})"]
    finally:
        lake.rows("RESET spark.wap.branch")
    return [f"    {row}" for row in rows]


def _record(lake: Lake, report: RunReport) -> None:
    lake.rows(
        "CREATE TABLE IF NOT EXISTS ops.runs (run_id string, started_at timestamp, "
        "finished_at timestamp, result string, phases string, rows_ingested bigint, "
        "rows_rejected bigint, tables_published bigint, mixed_window_seconds double, "
        "versions string, git_commit string) USING iceberg"
    )
    started = f"timestamp '{report.started_at:%Y-%m-%d %H:%M:%S.%f} UTC'"
    lake.rows(
        f"INSERT INTO ops.runs VALUES ('{report.run_id}', {started}, current_timestamp(), "
        f"'{report.result}', '{json.dumps(report.phases)}', {report.rows_ingested}, "
        f"{report.rows_rejected}, {report.tables_published}, "
        f"cast({report.mixed_window_seconds} AS double), '{json.dumps(_versions())}', "
        f"'{_git_commit()}')"
    )


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    return {
        name: version(name) for name in ("dbt-core", "dbt-spark", "pyspark", "ecom")
    }


def _git_commit() -> str:
    import subprocess

    done: Any = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        cwd=PROJECT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return str(done.stdout.strip()) if done.returncode == 0 else "unknown"
