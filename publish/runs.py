"""`ops.runs`: one row per run, with what it did and how it ended."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from importlib.metadata import version

from common.errors import EcomError, ServiceError
from common.progress import say
from common.settings import Settings, git_commit
from ingest.statements import spark_literal, spark_timestamp
from publish.in_home import KILLED, RUNNING, Run, last_run
from publish.lake import Lake
from publish.moving import Moved

COLUMNS = {
    "run_id": "string", "started_at": "timestamp", "finished_at": "timestamp",
    "result": "string", "phases": "string", "rows_ingested": "bigint",
    "rows_rejected": "bigint", "tables_published": "bigint",
    "mixed_window_seconds": "double", "versions": "string", "git_commit": "string",
    "error": "string",
}  # fmt: skip


def tables(lake: Lake) -> dict[str, dict[str, str]]:
    """The table of runs, as `journal.ensure` takes it."""
    return {_table(lake): COLUMNS}


def record(settings: Settings, lake: Lake, run: Run) -> None:
    """Give a run its row, or bring it up to date.

    Where the engine is gone, the next command does it.
    """
    finished = datetime.now(timezone.utc)
    try:
        lake.rows(_merge(_table(lake), run, finished))
    except EcomError as error:
        run.recorded = False
        say(f"The run's row in ops.runs waits for the next command: {error.args[0]}")
    else:
        run.recorded = True
    try:
        run.write(settings)
    except ServiceError as error:
        # The error that the run ends with, if any, says more.
        say(str(error.args[0]))


def settle(settings: Settings, lake: Lake, completed: Moved | None) -> None:
    """Give a run that was killed, or could not say how it ended, its row.

    Args:
        settings: where the stack is.
        lake: sessions on the warehouse.
        completed: the publish that was completed just now, if any.
    """
    run = last_run(settings)
    if run is None:
        return
    if run.report.result == RUNNING:
        run.report.result = KILLED
        run.report.error = f"killed in {run.phase or 'its preparation'}"
        run.recorded = False
        say(f"Run {run.report.run_id} was {run.report.error}")
    if completed is not None and completed.id == run.report.run_id:
        run.report.tables_published = completed.tables
        run.report.mixed_window_seconds = completed.mixed_window_seconds
        run.report.branch, run.tested = "", False
    run.moving = ""
    if not run.recorded:
        record(settings, lake, run)
    else:
        run.write(settings)


def _merge(table: str, run: Run, finished: datetime) -> str:
    """One statement that inserts the row or replaces it: saying it twice is harmless."""
    report = run.report
    values = [
        spark_literal(report.run_id),
        spark_timestamp(report.started_at),
        spark_timestamp(finished),
        spark_literal(report.result),
        spark_literal(json.dumps(report.phases)),
        f"cast({report.rows_ingested} AS bigint)",
        f"cast({report.rows_rejected} AS bigint)",
        f"cast({report.tables_published} AS bigint)",
        f"cast({report.mixed_window_seconds} AS double)",
        spark_literal(json.dumps(_versions())),
        spark_literal(git_commit()),
        spark_literal(report.error),
    ]
    row = ", ".join(f"{value} AS {name}" for value, name in zip(values, COLUMNS))
    return (
        f"MERGE INTO {table} AS kept USING (SELECT {row}) AS found "
        "ON kept.run_id = found.run_id "
        "WHEN MATCHED THEN UPDATE SET * WHEN NOT MATCHED THEN INSERT *"
    )


def _table(lake: Lake) -> str:
    return f"{lake.schema('ops')}.runs"


def _versions() -> dict[str, str]:
    return {
        name: version(name) for name in ("dbt-core", "dbt-spark", "pyspark", "ecom")
    }
