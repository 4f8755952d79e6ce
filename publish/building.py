"""Runs dbt as a process of its own and reads what it left in `target/`."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from common.errors import DataError, UsageError
from common.progress import say
from common.settings import PROJECT, Settings
from publish.in_home import dbt_record
from publish.lake import Lake
from stack.endpoints import dbt_environment
from stack.process import base_environment

PASSED = ("success", "pass", "warn", "skipped", "no-op", "partial success")
CANCEL_PATIENCE = 15.0
AUDIT_TARGETS = {"local": "audit", "ci": "audit", "dev": "audit"}
"""The target whose sessions write to a branch; others do so themselves."""


@dataclass(frozen=True)
class Scope:
    """What a run builds: what is new; everything; or some days of events again.

    Attributes:
        full_refresh: core and marts, from staging and snapshots.
        days: the first day of a backfill and the day after its last (UTC).
    """

    full_refresh: bool = False
    days: tuple[date, date] | None = None

    def arguments(self) -> list[str]:
        """The flags that tell dbt."""
        if self.days:
            first, end = self.days
            return ["--event-time-start", str(first), "--event-time-end", str(end)]
        return ["--full-refresh"] if self.full_refresh else []


@dataclass
class BuildOutcome:
    """What a `dbt build` did."""

    succeeded: bool
    counts: dict[str, int] = field(default_factory=dict)
    failures: list[dict[str, Any]] = field(default_factory=list)


def dbt(
    settings: Settings, arguments: Sequence[str], environment: Mapping[str, str]
) -> bool:
    """Run dbt, its output line by line to stderr; whether it exited with 0."""
    command = [
        str(Path(sys.executable).with_name("dbt")),
        "--no-use-colors",
        *arguments,
    ]
    process = subprocess.Popen(
        command,
        cwd=PROJECT,
        env={**_inherited(), **dbt_environment(settings), **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # A terminal's Ctrl-C reaches us alone: dbt is told once, and waited for.
        start_new_session=True,
    )
    assert process.stdout is not None
    record = dbt_record(settings)
    try:
        record.write(process.pid)
        for line in process.stdout:
            say(f"  {line.rstrip()}")
        return process.wait() == 0
    except BaseException:
        _cancel(process)
        raise
    finally:
        record.forget()


def _cancel(process: subprocess.Popen[str]) -> None:
    """Have dbt cancel its statements in the engine; end it where it does not."""
    say("Waiting for dbt to cancel its statements")
    process.send_signal(signal.SIGINT)
    try:
        process.communicate(timeout=CANCEL_PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()


def _inherited() -> dict[str, str]:
    names = [n for n in os.environ if n.startswith(("ECOM_", "DBT_"))]
    kept = {name: os.environ[name] for name in names if name != "ECOM_SOURCE_DSN"}
    return {**base_environment(), **kept}


def build(settings: Settings, branch: str, scope: Scope) -> BuildOutcome:
    """`dbt build` with every write on `branch`.

    Args:
        settings: where the stack is.
        branch: Iceberg's name of it.
        scope: what is built.

    Raises:
        DataError: dbt could not even start (a broken project).
    """
    results = target_folder() / "run_results.json"
    results.unlink(missing_ok=True)
    # Unit tests test the models, not the data: they belong to CI, and those of an
    # incremental branch need the model's table to exist already.
    arguments = ["build", "--target", target(settings)]
    arguments += ["--exclude-resource-type", "unit_test"]
    arguments += scope.arguments()
    succeeded = dbt(settings, arguments, {"ECOM_AUDIT_BRANCH": branch})
    if not results.exists():
        raise DataError(
            "dbt stopped before it built anything; nothing was published",
            "read its message above, mend what it names and run again",
        )
    # `dbt docs generate` writes its own run_results.json over the build's.
    shutil.copyfile(results, results.with_name("build_results.json"))
    return read_outcome(succeeded, json.loads(results.read_text(encoding="utf-8")))


def target(settings: Settings) -> str:
    """The dbt target whose sessions work on a branch."""
    return AUDIT_TARGETS.get(settings.target, settings.target)


def demand_target(settings: Settings) -> None:
    """Refuse a target that dbt does not know, before anything is moved for it.

    Raises:
        UsageError: `profiles.yml` has no such target.
    """
    path = Path(dbt_environment(settings)["DBT_PROFILES_DIR"]) / "profiles.yml"
    known = YAML(typ="safe").load(path)["ecom"]["outputs"]
    if settings.target not in known:
        raise UsageError(
            f"Cannot build for the target {settings.target!r}: {path} has "
            f"{', '.join(known)}",
            "set ECOM_TARGET to one of these, or unset it for local",
        )


def parsed(settings: Settings) -> dict[str, Any]:
    """The project as dbt reads it now: its manifest.

    Raises:
        DataError: dbt cannot read it.
    """
    if not dbt(settings, ["--quiet", "parse", "--target", target(settings)], {}):
        raise DataError("dbt cannot read the project", "read its message above")
    return manifest()


def manifest() -> dict[str, Any]:
    """dbt's manifest as its last command left it."""
    text = (target_folder() / "manifest.json").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text)
    return found


def unmade(lake: Lake, tables: Iterable[str], project: Mapping[str, Any]) -> list[str]:
    """Those of the warehouse's tables that nothing in dbt's manifest makes."""
    made = {f"{node['schema']}.{node['alias']}" for node in project["nodes"].values()}
    return sorted(set(tables) - made - {build_state(lake)})


def build_state(lake: Lake) -> str:
    """Where a build remembers what it has read."""
    return f"{lake.schema('core')}.build_state"


def target_folder() -> Path:
    """Where dbt leaves its artifacts."""
    return Path(os.environ.get("DBT_TARGET_PATH") or PROJECT / "target")


def read_outcome(succeeded: bool, document: dict[str, Any]) -> BuildOutcome:
    """Counts by status, and the nodes that failed."""
    outcome = BuildOutcome(succeeded)
    for result in document["results"]:
        status = result["status"]
        outcome.counts[status] = outcome.counts.get(status, 0) + 1
        if status not in PASSED:
            outcome.failures.append(result)
    return outcome
