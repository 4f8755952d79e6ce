"""The order of a run: ingest, build on a branch, test, publish, reconcile, show."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from typing import Any, Protocol

from common.errors import DataError, EcomError
from common.progress import say, task
from common.settings import Settings
from publish import building, costs, in_home, moving, runs, shown
from publish.building import Scope
from publish.failures import build_error
from publish.in_home import Run, RunReport, last_run, one_at_a_time
from publish.journal import Entry, History, Journal
from publish.lake import MAIN, SCHEMAS, Lake, open_lake
from publish.signals import ends_politely
from stack.endpoints import connect_url, source_dsn
from stack.hdfs_access import demand_writable

PHASES = {
    "ingest": "Ingesting", "build": "Building and testing", "publish": "Publishing",
    "reconcile": "Comparing source and staging", "docs": "Writing dbt's docs",
    "charts": "Drawing", "site": "Writing",
}  # fmt: skip


class Showing(Protocol):
    """What shows the published tables to people; publishing knows nothing of it."""

    def draw(self) -> None:
        """Draw the charts."""

    def is_drawn(self) -> bool:
        """Whether all files of the charts are there."""

    def write_site(self) -> None:
        """Write the site, from the charts and what `ops` has recorded."""


def run(
    settings: Settings, scope: Scope, showing: Showing, publishes: bool = True
) -> RunReport:
    """One safe run.

    Args:
        settings: where the stack is.
        scope: what is built; a backfill stands on what is staged and ingests nothing.
        showing: draws charts and site, once the tables are published.
        publishes: whether the tested branch is published; else it waits.

    Raises:
        DataError: a model or test failed, or source and staging differ; readers
            see what they saw before (source and staging are compared, docs, charts
            and site made after publishing).
        BusyError: another run of this home is under way.
        ServiceError: a service does not answer.
        UsageError: dbt has no such target.
    """
    building.demand_target(settings)
    with one_at_a_time(settings), ends_politely(), open_lake(settings) as lake:
        _check_folders(settings)
        past = settle(settings, lake)
        last = last_run(settings)
        clean = last is not None and last.report.result == in_home.SUCCESS
        this = Run(RunReport(*_new_id()))
        Journal(lake).claim(moving.BRANCH_PREFIX + this.report.run_id)
        this.base = moving.discard(lake, columns=not clean)
        with _recorded(settings, lake, this):
            _build_on_branch(settings, lake, this, scope)
            if publishes:
                moved = _publish(settings, lake, this, past)
                _show(settings, lake, this, showing, moved)
    for line in in_home.describe_unmade(this.unmade):
        say(f"  {line}")
    return this.report


def publish_tested(settings: Settings) -> RunReport:
    """Publish the branch that was built and tested but not published yet.

    Raises:
        DataError: there is none, or something has written since it was built.
    """
    with one_at_a_time(settings), ends_politely(), open_lake(settings) as lake:
        past = settle(settings, lake)
        last = last_run(settings)
        if last is None or not last.tested:
            raise DataError(
                "Publishing: no tested branch waits to be published",
                "run `ecom run`, which builds, tests and publishes",
            )
        report = RunReport(*_new_id(), branch=last.report.branch)
        this = Run(report, base=last.base, tested=True, unmade=last.unmade)
        with _recorded(settings, lake, this):
            _publish(settings, lake, this, past)
    return this.report


def rollback(settings: Settings, to: str | None) -> tuple[str, moving.Moved]:
    """Give readers core and marts as an earlier publish left them.

    Args:
        settings: where the stack is.
        to: one of `publishes`; none means what readers saw before the present one.

    Returns:
        The publish that readers see now, and what moved.

    Raises:
        DataError: there is no such publish.
    """
    with one_at_a_time(settings), ends_politely(), open_lake(settings) as lake:
        past = settle(settings, lake)
        last = last_run(settings)
        with _moving(settings, last, "a rollback"):
            shows, moved = moving.roll_back(lake, _new_id()[0], past, to)
        if last is not None and last.tested:
            say(f"Branch {last.report.branch} was built on what is no longer shown")
            last.tested = False
            last.write(settings)
        return shows, moved


def publishes(settings: Settings) -> list[Entry]:
    """What readers see and what a rollback can return to, newest first."""
    with open_lake(settings) as lake:
        ledger = Journal(lake)
        ledger.prepare()
        return ledger.history().kept


def settle(settings: Settings, lake: Lake) -> History:
    """Complete or undo what an earlier command of this home has left half done.

    The caller holds the home (`in_home.one_at_a_time`).

    Returns:
        The journal as it stands then.
    """
    ledger = Journal(lake)
    ledger.prepare(runs.tables(lake))
    past = ledger.history()
    runs.settle(settings, lake, moving.recover(lake, past))
    return ledger.history() if past.unfinished else past


# --- the phases


def _build_on_branch(settings: Settings, lake: Lake, this: Run, scope: Scope) -> None:
    report = this.report
    if scope.days is None:
        with _phase(settings, this, "ingest"):
            _ingest(settings, report)
    report.branch = moving.BRANCH_PREFIX + report.run_id
    with _phase(settings, this, "build"):
        try:
            outcome = building.build(settings, report.branch, scope)
            costs.add_spark_costs(settings, lake, report.started_at)
            if not outcome.succeeded:
                raise build_error(lake, report.branch, outcome)
        except DataError:
            moving.hide_new_columns(lake)
            raise
    this.tested = True
    this.unmade = building.unmade(lake, this.base, building.manifest())
    this.write(settings)


def _publish(settings: Settings, lake: Lake, this: Run, past: History) -> moving.Moved:
    report = this.report
    with _phase(settings, this, "publish"), _moving(settings, this, "a publish"):
        try:
            moved = moving.publish_branch(
                lake, report.branch, report.run_id, this.base, past
            )
        except DataError:
            this.tested = False
            moving.hide_new_columns(lake)
            raise
        report.tables_published = moved.tables
        report.mixed_window_seconds = moved.mixed_window_seconds
        report.branch, this.tested = "", False
    say(
        f"Published {moved.tables} tables; readers could see a mix for "
        f"{moved.mixed_window_seconds:.2f} s"
    )
    return moved


def _show(
    settings: Settings, lake: Lake, this: Run, showing: Showing, moved: moving.Moved
) -> None:
    """Compare with the source and show what is published, also where they differ."""
    with _phase(settings, this, "reconcile"):
        problems = _reconcile(settings)
    made_of = shown.digest(moved.shown)
    if shown.is_made_of(made_of) and showing.is_drawn():
        say("Docs and charts show what readers see already")
    else:
        problems += _docs_and_charts(settings, this, showing)
        if not problems:
            shown.remember(made_of)
    # Before the site, so that its status page has this run.
    this.report.result = in_home.FAILED if problems else in_home.SUCCESS
    this.report.error = "; ".join(str(problem.args[0]) for problem in problems)
    runs.record(settings, lake, this)
    with _phase(settings, this, "site"):
        showing.write_site()
    if problems:
        raise problems[0]


def _docs_and_charts(
    settings: Settings, this: Run, showing: Showing
) -> list[DataError]:
    """Make them anew; the error to end the run with, where dbt could not."""
    shown.forget()
    with _phase(settings, this, "docs"):
        # What readers see; on another target dbt would parse the project anew.
        arguments = [
            "docs",
            "generate",
            "--static",
            "--target",
            building.target(settings),
        ]
        made = building.dbt(settings, arguments, {"ECOM_AUDIT_BRANCH": MAIN})
    with _phase(settings, this, "charts"):
        showing.draw()
    if made:
        return []
    return [DataError("dbt could not write its docs", "read its message above")]


@contextmanager
def _phase(settings: Settings, this: Run, name: str) -> Iterator[None]:
    """Time one phase, and say that it begins and goes on."""
    say(f"== {name}")
    began = time.monotonic()
    this.phase = name
    this.write(settings)
    try:
        with task(PHASES[name]):
            yield
        this.phase = ""
    finally:
        this.report.phases[name] = round(time.monotonic() - began, 1)


@contextmanager
def _moving(settings: Settings, this: Run | None, what: str) -> Iterator[None]:
    """Let `ecom status` know that tables move, should the process or engine die."""
    if this is None:
        yield
        return
    this.moving = what
    this.write(settings)
    try:
        yield
    except DataError:
        this.moving = ""
        raise
    else:
        this.moving = ""
    finally:
        this.write(settings)


@contextmanager
def _recorded(settings: Settings, lake: Lake, this: Run) -> Iterator[None]:
    """Give a run its row in `ops.runs`, however it ends."""
    this.write(settings)
    try:
        yield
    except Exception as error:
        this.report.result = in_home.FAILED
        text = error.args[0] if isinstance(error, EcomError) else error
        this.report.error = this.report.error or " ".join(str(text).split())[:500]
        runs.record(settings, lake, this)
        raise
    except BaseException:
        this.report.result = in_home.INTERRUPTED
        this.report.error = f"interrupted in {this.phase}"
        _end_interrupted(settings, this)
        raise
    this.report.result = in_home.SUCCESS
    runs.record(settings, lake, this)


def _end_interrupted(settings: Settings, this: Run) -> None:
    """As after a failure, on new sessions: the old ones may wait for an answer."""
    this.recorded = False
    this.write(settings)
    try:
        with open_lake(settings) as lake:
            if not this.tested and this.report.branch:
                moving.hide_new_columns(lake)
            runs.record(settings, lake, this)
    except EcomError as error:
        say(f"The next command cleans up: {error.args[0]}")


def _new_id() -> tuple[str, datetime]:
    """A name no other run has, in order of time, and its moment."""
    now = datetime.now(timezone.utc)
    return f"{now:%Y%m%dt%H%M%S}_{uuid.uuid4().hex[:6]}", now


# --- ingest's commands, on this home's source and staging


def ingest_endpoints(settings: Settings) -> Any:
    """Where ingest reads and writes (`ingest.run.Endpoints`)."""
    from ingest.run import Endpoints

    return Endpoints(
        source_dsn(settings, "ingest"),
        connect_url(settings),
        settings.home / "run" / "ingest_sessions",
    )


def _manifest(settings: Settings) -> Any:
    """The shop's manifest, landing in this target's schema."""
    from ingest import manifest, run

    return manifest.load(run.DEFAULT_MANIFEST, settings.schema_prefix)


def _check_folders(settings: Settings) -> None:
    """Refuse before anything moves where the engine may not write."""
    from ingest import run

    staged = run.folders(_manifest(settings), [])
    built = [f"{settings.schema_prefix}{schema}.db" for schema in SCHEMAS]
    demand_writable(settings, [*staged, *built])


def _ingest(settings: Settings, report: RunReport) -> None:
    from ingest import run

    for result in run.ingest(ingest_endpoints(settings), _manifest(settings), []):
        report.rows_ingested += result.rows_inserted + result.rows_updated
        report.rows_rejected += result.rows_rejected
        say(
            f"  {result.table}: {result.rows_read:,} read, {result.rows_inserted:,} new, "
            f"{result.rows_updated:,} updated, {result.rows_deleted:,} deleted, "
            f"{result.rows_rejected:,} rejected, {result.seconds:.1f} s"
        )


def _reconcile(settings: Settings) -> list[DataError]:
    """Compare source and staging; the error to end the run with, where they differ."""
    from ingest import reconcile

    found = reconcile.reconcile(ingest_endpoints(settings), _manifest(settings), [])
    for one in found:
        say(f"  {one.describe()}")
    apart = ", ".join(one.table for one in found if not one.agrees)
    if not apart:
        return []
    return [
        DataError(
            f"Source and staging differ in {apart} (the keys are named above); the "
            "tested tables are published",
            "run `ecom ingest --full`, then `ecom run`",
        )
    ]
