"""What publishing keeps in the home: the lock, the newest run, its dbt.

`run.lock` is held by the one command that writes to the warehouse, and freed by the
system when that dies. `run.json` is the newest run, replaced at every step, so that the
next command knows of one that was killed. `run/owner.json` and `run/dbt.json` name the
process that holds the lock, and the dbt it waits for.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from common.errors import BusyError, ServiceError
from common.progress import say
from common.settings import Settings
from stack.home import Home
from stack.process import ProcessRecord, stop

RUNNING, SUCCESS, FAILED = "running", "success", "failed"
INTERRUPTED, KILLED = "interrupted", "killed"


@dataclass
class RunReport:
    """One run, as `ops.runs` and `ecom run --json` have it.

    Attributes:
        run_id: its start and six digits by chance.
        started_at: UTC.
        result: `running`, `success`, `failed`, `interrupted` or `killed`.
        phases: seconds by phase, in order.
        rows_ingested, rows_rejected: of all tables.
        tables_published: how many tables of the warehouse moved.
        mixed_window_seconds: how long a reader could see new and old tables mixed.
        branch: the one it has left, to look at or to publish; empty once published.
        error: what went wrong, in a line, or empty.
    """

    run_id: str
    started_at: datetime
    result: str = RUNNING
    phases: dict[str, float] = field(default_factory=dict)
    rows_ingested: int = 0
    rows_rejected: int = 0
    tables_published: int = 0
    mixed_window_seconds: float = 0.0
    branch: str = ""
    error: str = ""


@dataclass
class Run:
    """A run, and what only its home needs to know.

    Attributes:
        report: what it did so far.
        phase: the one under way, or empty.
        base: table -> snapshot that readers saw when the build began.
        tested: whether its branch passed all tests and waits to be published.
        moving: what is moving readers' tables at this moment, or empty.
        recorded: whether `ops.runs` has its row as it stands.
        unmade: tables that no model makes any more.
    """

    report: RunReport
    phase: str = ""
    base: dict[str, int] = field(default_factory=dict)
    tested: bool = False
    moving: str = ""
    recorded: bool = False
    unmade: list[str] = field(default_factory=list)

    def write(self, settings: Settings) -> None:
        """Replace `run.json` at once.

        Raises:
            ServiceError: the home cannot be written to.
        """
        text = json.dumps(asdict(self), default=str, indent=2)
        try:
            Home(settings.home).write_private(_file(settings), text)
        except OSError as error:
            raise ServiceError(
                f"Writing {_file(settings)}: {error.strerror}",
                "make room, or let it be written, then say the same command again",
            ) from error


def last_run(settings: Settings) -> Run | None:
    """The newest run of a home; None where there is none."""
    try:
        known: dict[str, Any] = json.loads(_file(settings).read_text(encoding="utf-8"))
        report = RunReport(**known.pop("report"))
        report.started_at = datetime.fromisoformat(str(report.started_at))
        return Run(report, **known)
    except (OSError, ValueError, KeyError, TypeError):
        return None


@contextmanager
def one_at_a_time(settings: Settings) -> Iterator[None]:
    """Hold a home against every other command that writes to its warehouse.

    Raises:
        BusyError: another holds it; a dead owner holds nothing, and its dbt is ended.
        ServiceError: there is no such home.
    """
    if not settings.home.is_dir():
        raise ServiceError(f"There is no stack in {settings.home}", "run `ecom up`")
    lock = FileLock(settings.home / "run.lock", timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise BusyError(
            f"Another run of {settings.home} is under way{_owner(settings)}",
            "wait for it to end, then run again",
        ) from error
    owner = ProcessRecord(Home(settings.home), "owner")
    try:
        orphan = dbt_record(settings).find()
        if orphan is not None:
            say(f"Ending dbt (process {orphan.pid}) of a run that was killed")
            stop(orphan)
        owner.write(os.getpid())
        yield
    finally:
        owner.forget()
        lock.release()


def dbt_record(settings: Settings) -> ProcessRecord:
    """The record of the dbt that a command waits for."""
    return ProcessRecord(Home(settings.home), "dbt")


def describe(settings: Settings) -> list[str]:
    """What is to be known of the newest run of a home, for `ecom status`."""
    run = last_run(settings)
    if run is None:
        return []
    name, branch, owner = run.report.run_id, run.report.branch, _owner(settings)
    if run.report.result == RUNNING and owner:
        return [f"run {name} is under way{owner}"]
    at = f"{run.report.started_at:%Y-%m-%d %H:%M} UTC"
    result = KILLED if run.report.result == RUNNING else run.report.result
    lines = [f"run {name} of {at}: {result}{f' in {run.phase}' if run.phase else ''}"]
    if run.moving and not owner:
        lines.append(
            f"{run.moving} was cut off, tables may be mixed: the next `ecom run`, "
            "`publish`, `rollback` or `maintain` completes or undoes it"
        )
    elif run.tested:
        lines.append(f"branch {branch} passed its tests and waits for `ecom publish`")
    elif branch:
        lines.append(
            f"branch {branch} stays for inspection until the next run "
            f"(`set spark.wap.branch={branch}` in a SQL session reads it)"
        )
    return [*lines, *describe_unmade(run.unmade)]


def describe_unmade(tables: Sequence[str]) -> list[str]:
    """What is to be known of tables that no model makes any more."""
    return [
        f"no model makes {table} any more: readers see it as last published, until "
        f"`ecom maintain --drop {table}`"
        for table in tables
    ]


def _owner(settings: Settings) -> str:
    process = ProcessRecord(Home(settings.home), "owner").find()
    if process is None:
        return ""
    run = last_run(settings)
    phase = f", in {run.phase}" if run is not None and run.phase else ""
    return f" (process {process.pid}{phase})"


def _file(settings: Settings) -> Path:
    return settings.home / "run.json"
